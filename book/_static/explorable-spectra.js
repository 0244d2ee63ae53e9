// Chapter 6: training and test spectra as power laws along the same directions. What a thought leaves of each direction's error,
// and what becomes of the whole: with an endless test prompt, and of sampled prompts of m examples.
(function () {
  "use strict";
  const D = 10, STEPS = 20, PROMPTS = 101, SEED = 1;
  const power = (exponent) => Array.from({ length: D }, (_, i) => Math.pow(i + 1, -exponent));

  // Γ of training is diagonal: (1 + 1/n) λ_i + tr Λ / n.
  function gamma(alpha, n) {
    const train = power(alpha), trace = train.reduce((a, b) => a + b, 0);
    return train.map((v) => (1 + 1 / n) * v + trace / n);
  }
  const factors = (alpha, beta, n) => power(beta).map((sigma, i) => 1 - sigma / gamma(alpha, n)[i]);
  const limit = (shrink, k) => shrink.reduce((sum, f) => sum + Math.pow(f * f, k), 0);

  // Σ̂ of prompts with white features, drawn once for each m; any Σ is a change of scale away.
  const drawn = {};
  function white(m) {
    const random = tsl.random(SEED);
    return (drawn[m] = drawn[m] || Array.from({ length: PROMPTS }, () => tsl.whiteGram(D, m, random)));
  }

  // Error after each step, averaged over w*: ‖(I − Γ⁻¹Σ̂)^k‖²_F.
  function curve(gammas, spectrum, gram) {
    const step = gram.map((row, i) => row.map((v, j) => (i === j ? 1 : 0) - (v * Math.sqrt(spectrum[i] * spectrum[j])) / gammas[i]));
    const errors = [D];
    for (let k = 1, left = step; k <= STEPS; k++, left = tsl.product(step, left)) errors.push(tsl.squares(left));
    return errors;
  }

  function state({ alpha, beta, n, m }) {
    const shrink = factors(alpha, beta, n), steps = Array.from({ length: STEPS + 1 }, (_, k) => k);
    const found = { shrink, limit: steps.map((k) => limit(shrink, k)) };
    if (Number.isFinite(m)) {
      const curves = white(m).map((gram) => curve(gamma(alpha, n), power(beta), gram));
      const at = (q) => steps.map((k) => tsl.quantile(curves.map((c) => c[k]), q));
      found.curves = curves;
      found.mean = steps.map((k) => curves.reduce((sum, c) => sum + c[k], 0) / PROMPTS);
      [found.low, found.median, found.high] = [at(0.1), at(0.5), at(0.9)];
      found.grew = curves.filter((c) => c[STEPS] > c[STEPS - 5]).length / PROMPTS;
    }
    return found;
  }

  tsl.spectra = { D, STEPS, factors, limit, white, state };

  tsl.start("spectra", (place, box) => {
    const controls = tsl.sliders(place, [
      { name: "alpha", label: "training spectrum α", min: 0, max: 1.5, step: 0.05, value: 1 },
      { name: "beta", label: "test spectrum β", min: 0, max: 1.5, step: 0.05, value: 1 },
      { name: "n", label: "examples of a training prompt n", min: 5, max: 100, step: 1, value: 20 },
      { name: "m", label: "examples of a test prompt m", values: [5, 10, 15, 20, 30, 50, 100, 200, 1000, Infinity], value: 200 },
      { name: "k", label: "thoughts k", min: 0, max: STEPS, step: 1, value: 5 },
    ], draw);
    const choose = (values) => () => { controls.set(values); draw(); };
    tsl.buttons(place, "Try:", [
      ["thinking buys the faint directions", choose({ alpha: 1, beta: 1, n: 20, m: 1000, k: 5 })],
      ["training that did not cover the test", choose({ alpha: 1, beta: 0, n: 30, m: 1000, k: 5 })],
      ["the other way round is safe", choose({ alpha: 0, beta: 1, n: 30, m: 1000, k: 5 })],
      ["a test prompt too short", choose({ alpha: 0, beta: 0, n: 50, m: 20, k: 5 })],
      ["an endless one", choose({ m: Infinity })],
    ]);
    const panels = tsl.panels(place);
    const bars = tsl.panel(panels, "What one thought leaves of the error in each direction, for an endless test prompt");
    const chart = tsl.panel(panels, "Error against the number of thoughts");
    tsl.legend(place, [["limit", "endless test prompt"], ["blue", `median of ${PROMPTS} prompts, bars: 10 to 90 %`], ["dot-amber", "their mean, which a few prompts can carry"]]);
    const verdict = tsl.verdict(place);

    function draw() {
      const set = controls.values(), now = state(set), sizes = now.shrink.map(Math.abs), finite = Number.isFinite(set.m);
      const top = Math.max(1.25, ...sizes) * 1.05;
      const left = bars.draw({ x: [0.4, D + 0.6], y: [0, top], xName: "direction i", yName: "|1 − σᵢ/γᵢ|", xTicks: sizes.map((_, i) => i + 1) });
      sizes.forEach((size, i) => {
        const bar = left.bar(i + 0.7, i + 1.3, 0, size, size > 1 ? "fill-red" : "fill-blue");
        tsl.element("title", {}, bar, `direction ${i + 1}: ${size.toFixed(3)}`);
      });
      left.line([[0.4, 1], [D + 0.6, 1]], "limit");

      const shown = finite ? [...now.limit, ...now.median, ...now.high] : now.limit;
      const right = chart.draw({ x: [-0.5, STEPS + 0.5], y: tsl.decades(shown), logY: true, xName: "thoughts k", yName: "error ‖ŵ − w*‖²" });
      right.line(now.limit.map((v, k) => [k, v]), "limit");
      if (finite) {
        now.median.forEach((_, k) => right.line([[k, now.low[k]], [k, now.high[k]]], "rug"));
        right.line(now.median.map((v, k) => [k, v]), "blue");
        now.mean.forEach((v, k) => right.dot(k, v, "dot-amber", 2.5));
      }
      const curveHere = finite ? now.median : now.limit, here = curveHere[set.k];
      right.dot(set.k, here, "dot-red", 5);

      const best = curveHere.indexOf(Math.min(...curveHere)), worst = Math.max(...sizes);
      verdict.textContent =
        `After ${set.k} thoughts the error is ${tsl.number(here)}${finite ? " for a typical prompt" : ""} (an answer of zero costs ${D}); least after ${best}. ` +
        (worst > 1 ? `With an endless prompt it grows in the long run, ${tsl.number(worst * worst)}-fold a thought. `
                   : `With an endless prompt more thinking always helps: the slowest direction keeps ${tsl.number(worst)} a thought. `) +
        (finite ? `With m = ${set.m}, ${Math.round(100 * now.grew)} % of prompts grow in the end.` : "");
      box.dataset.error = String(now.limit[set.k]);
    }
    draw();
  });
})();
