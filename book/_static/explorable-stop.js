// Chapter 6: when to stop. A model trained on isotropic features thinks about noisy prompts. The rule holds examples of the prompt
// out and stops where their error turns; the oracle knows w* and takes the best step of the chain.
(function () {
  "use strict";
  const D = 5, STEPS = 20, FOLDS = 20, MANY = 101;

  // A prompt: rows x ~ N(0, I), w* ~ N(0, I), labels ⟨w*, x⟩ + σ ε.
  function prompt(m, noise, random) {
    const w = Array.from({ length: D }, () => tsl.normal(random));
    const x = Array.from({ length: m }, () => w.map(() => tsl.normal(random)));
    const y = x.map((row) => row.reduce((sum, v, j) => sum + v * w[j], 0) + noise * tsl.normal(random));
    return { x, y, w };
  }

  // ŵ_{k+1} = ŵ_k − (Σ̂ŵ_k − b)/g on some of the rows; Γ = g I.
  function chain(x, y, g) {
    const sigma = tsl.identity(D).map((row) => row.map(() => 0)), b = new Array(D).fill(0);
    x.forEach((row, i) => row.forEach((v, j) => {
      b[j] += (v * y[i]) / x.length;
      for (let l = 0; l < D; l++) sigma[j][l] += (v * row[l]) / x.length;
    }));
    const found = [new Array(D).fill(0)];
    for (let k = 0; k < STEPS; k++) found.push(tsl.apply(sigma, found[k]).map((v, j) => found[k][j] - (v - b[j]) / g));
    return found;
  }

  // Mean squared error of labels that were held out: every row is, in one of the folds.
  function heldOut(x, y, g) {
    const folds = Math.min(FOLDS, y.length), total = new Array(STEPS + 1).fill(0);
    for (let fold = 0; fold < folds; fold++) {
      const kept = (_, i) => i % folds !== fold, path = chain(x.filter(kept), y.filter(kept), g);
      for (let i = fold; i < y.length; i += folds) {
        path.forEach((w, k) => (total[k] += (y[i] - x[i].reduce((sum, v, j) => sum + v * w[j], 0)) ** 2 / y.length));
      }
    }
    return total;
  }

  // The rule decides as it goes: it answers with the best step so far once two more have brought no better score.
  function firstTurn(score) {
    let best = 0;
    for (let k = 1; k <= STEPS && k - best <= 2; k++) if (score[k] < score[best]) best = k;
    return best;
  }

  function judge({ x, y, w }, g) {
    const errors = chain(x, y, g).map((p) => p.reduce((sum, v, j) => sum + (v - w[j]) ** 2, 0)), score = heldOut(x, y, g);
    return { errors, score, rule: firstTurn(score), oracle: errors.indexOf(Math.min(...errors)) };
  }

  // Γ of training on prompts of n examples with the same noise.
  const scale = (n, noise) => 1 + (1 + D + noise * noise) / n;

  function state({ noise, m, n, seed }) {
    const g = scale(n, noise), shown = prompt(m, noise, tsl.random(seed)), random = tsl.random(10_000);
    const others = Array.from({ length: MANY }, () => judge(prompt(m, noise, random), g)); // the same whatever the prompt shown
    const typical = (pick) => tsl.quantile(others.map((o) => o.errors[pick(o)]), 0.5);
    return {
      g, prompt: shown, ...judge(shown, g),
      medians: { one: typical(() => 1), rule: typical((o) => o.rule), oracle: typical((o) => o.oracle), last: typical(() => STEPS) },
    };
  }

  tsl.stop = { D, STEPS, FOLDS, prompt, judge, scale, state };

  tsl.start("stop", (place, box) => {
    let seed = 1;
    const controls = tsl.sliders(place, [
      { name: "noise", label: "label noise σ", values: [0, 0.25, 0.5, 1, 2], value: 1 },
      { name: "m", label: "examples of the test prompt m", values: [6, 8, 10, 15, 20, 40, 80], value: 20 },
      { name: "n", label: "examples of a training prompt n", values: [5, 10, 20, 40], value: 10 },
    ], draw);
    const choose = (values) => () => { controls.set(values); draw(); };
    tsl.buttons(place, "Try:", [
      ["another prompt", () => { seed += 1; draw(); }],
      ["exact labels, long prompt: no need to stop", choose({ noise: 0, m: 80, n: 20 })],
      ["noisy labels", choose({ noise: 2, m: 20, n: 10 })],
      ["a prompt too short", choose({ noise: 0, m: 6, n: 40 })],
    ]);
    const panels = tsl.panels(place);
    const truth = tsl.panel(panels, "Error of the answer, which only the oracle sees, against thoughts");
    const seen = tsl.panel(panels, "Error of labels held out of the prompt, which the rule sees, against thoughts");
    tsl.legend(place, [["blue", "this prompt's chain"], ["dot-red", "the rule stops here"], ["dot-green", "the oracle stops here"]]);
    const verdict = tsl.verdict(place);
    const holder = tsl.wide(place, "Errors of other prompts");

    function draw() {
      const set = controls.values(), now = state({ ...set, seed });
      const show = (panel, values, yName) => {
        const pens = panel.draw({ x: [-0.5, STEPS + 0.5], y: tsl.decades(values), logY: true, xName: "thoughts k", yName });
        pens.line(values.map((v, k) => [k, v]), "blue");
        values.forEach((v, k) => pens.dot(k, v, "dot-blue", 2.4));
        return pens;
      };
      const left = show(truth, now.errors, "error ‖ŵ − w*‖²");
      left.dot(now.oracle, now.errors[now.oracle], "dot-green", 7);
      left.dot(now.rule, now.errors[now.rule], "dot-red", 4.5);
      const right = show(seen, now.score, "held-out error of labels");
      right.dot(now.rule, now.score[now.rule], "dot-red", 4.5);
      const steps = (k) => `${k} ${k === 1 ? "step" : "steps"}`;
      verdict.textContent = `Prompt ${seed}: the rule stops after ${steps(now.rule)} with an error of ${tsl.number(now.errors[now.rule])}, the oracle after ` +
        `${steps(now.oracle)} with ${tsl.number(now.errors[now.oracle])}; thinking to the end gives ${tsl.number(now.errors[STEPS])}.`;
      const { one, rule, oracle, last } = now.medians;
      holder.replaceChildren();
      const table = tsl.element("table", { class: "tsl-claim-table" }, holder);
      tsl.element("caption", {}, table, `Typical error (median) of ${MANY} other prompts`);
      const rows = [["one step", one], ["stopped by the rule", rule], ["stopped by the oracle", oracle], [`all ${STEPS} steps`, last]];
      for (const [name, value] of rows) {
        const row = tsl.element("tr", {}, table);
        tsl.element("th", { scope: "row" }, row, name);
        tsl.element("td", {}, row, tsl.number(value));
      }
      box.dataset.rule = now.rule;
    }
    draw();
  });
})();
