// Chapter 3: a thought in two dimensions. Each step of thinking moves the answer by Γ⁻¹(b − Σ̂ŵ): down the prompt's own loss,
// in steps whose length the training data have fixed. The eigenvalues of Γ⁻¹Σ̂ say whether that converges.
(function () {
  "use strict";
  const STEPS = 20, TEST = [1, 0.3]; // eigenvalues of Σ, the covariance of the test's features

  // ŵ_0 = 0, then ŵ_{i+1} = ŵ_i − Γ⁻¹Σ̂(ŵ_i − w*): labels are exact.
  function chain(gamma, gram, w, steps) {
    const step = tsl.product(tsl.inverse(gamma), gram), found = [[0, 0]];
    for (let i = 0; i < steps; i++) {
      const now = found[i], move = tsl.apply(step, [now[0] - w[0], now[1] - w[1]]);
      found.push([now[0] - move[0], now[1] - move[1]]);
    }
    return found;
  }

  // Everything the page shows, from what the reader has set; `angle` in degrees turns the training's axes.
  function state({ first, second, angle, n, m, w, seed }) {
    const train = tsl.ellipse(first, second, (angle * Math.PI) / 180), gamma = tsl.gamma(train, n);
    const gram = tsl.gram(tsl.diagonal(TEST.map(Math.sqrt)), m, tsl.random(seed));
    const rates = tsl.eigen2(tsl.product(tsl.inverse(gamma), gram)), path = chain(gamma, gram, w, STEPS);
    const errors = path.map((p) => (p[0] - w[0]) ** 2 + (p[1] - w[1]) ** 2);
    const slowest = rates[0].re, factor = Math.abs(1 - slowest); // those of a product of positive matrices are real
    const kind = factor > 1 ? "explodes" : slowest > 1.1 ? "zigzags" : "converges";
    return { train, gamma, gram, rates, path, errors, factor, kind };
  }

  tsl.thought = { state, chain, TEST, STEPS };

  tsl.start("thought", (place, box) => {
    let w = [1.2, 1.0], seed = 1;
    const controls = tsl.sliders(place, [
      { name: "first", label: "training λ₁", min: 0.1, max: 2, step: 0.05, value: 1 },
      { name: "second", label: "training λ₂", min: 0.1, max: 2, step: 0.05, value: 0.3 },
      { name: "angle", label: "training axes turned by", min: 0, max: 90, step: 5, value: 0, show: (v) => `${v}°` },
      { name: "n", label: "examples of a training prompt n", values: [5, 10, 20, 50, 100, 1000], value: 20 },
      { name: "m", label: "examples of the test prompt m", values: [2, 3, 5, 10, 20, 50, 200, 1000], value: 50 },
    ], draw);
    const choose = (values, prompt = 1) => () => { controls.set(values); seed = prompt; draw(); };
    tsl.buttons(place, "Try:", [
      ["it converges", choose({ first: 1, second: 0.3, angle: 0, n: 20, m: 50 })],
      ["it zigzags: training on weaker features", choose({ first: 0.6, second: 0.2, angle: 0, n: 100, m: 50 })],
      ["training on other directions: it explodes", choose({ first: 1, second: 0.3, angle: 90, n: 100, m: 50 })],
      ["a prompt too short", choose({ first: 1, second: 0.3, angle: 0, n: 1000, m: 3 }, 11)],
      ["another prompt", () => { seed += 1; draw(); }],
    ]);
    const panels = tsl.panels(place);
    const plane = tsl.panel(panels, "The chain of answers on the contours of the prompt's loss", { interactive: true });
    const curve = tsl.panel(panels, "Error against steps of thinking");
    tsl.legend(place, [["blue", "the chain ŵ₀, ŵ₁, …"], ["contour", "equal loss on the prompt"], ["dot-amber", "w*: drag it, or use the arrow keys"]]);
    const verdict = tsl.verdict(place);
    const keep = (v) => Math.max(-2, Math.min(2, v));
    const handle = tsl.handle("w*", (a, b) => { w = [keep(a), keep(b)]; draw(); }, (a, b) => { w = [keep(w[0] + a / 10), keep(w[1] + b / 10)]; draw(); });

    function draw() {
      const now = state({ ...controls.values(), w, seed }), [[a, b], [, c]] = now.gram;
      // Contours (v − w*)ᵀ Σ̂ (v − w*) = level, by the root of Σ̂⁻¹ applied to a circle; one passes through ŵ₀ = 0.
      const start = a * w[0] * w[0] + 2 * b * w[0] * w[1] + c * w[1] * w[1];
      const pens = plane.draw({ x: [-3.6, 3.6], y: [-2.7, 2.7], xName: "first weight", yName: "second weight" });
      const det = a * c - b * b;
      for (const level of [0.1, 0.35, 1, 2, 4].map((f) => f * Math.max(start, 0.02))) {
        const points = Array.from({ length: 73 }, (_, i) => {
          const t = (i / 72) * 2 * Math.PI, r = Math.sqrt(level), u = r * Math.cos(t), v = r * Math.sin(t);
          // Cholesky: Σ̂ = L Lᵀ, and Lᵀ x = (u, v).
          const y = (v * Math.sqrt(a)) / Math.sqrt(Math.max(det, 1e-9));
          return [w[0] + u / Math.sqrt(a) - (b * y) / a, w[1] + y];
        });
        pens.line(points, "contour");
      }
      const seen = now.path.filter((p, k) => now.path.slice(0, k).every((q) => Math.hypot(...q) < 100)); // what follows is far away
      pens.line(seen, now.kind === "explodes" ? "red" : "blue");
      seen.forEach((p) => pens.dot(...p, now.kind === "explodes" ? "dot-red" : "dot-blue", 2.6));
      pens.text(0, -0.3, "ŵ₀");
      handle(pens, ...w, `${w[0].toFixed(1)}, ${w[1].toFixed(1)}`);
      const right = curve.draw({ x: [0, STEPS], y: tsl.decades(now.errors), logY: true, xName: "steps of thinking k", yName: "error ‖ŵ − w*‖²" });
      const points = now.errors.map((e, k) => [k, e]);
      right.line(points, now.kind === "explodes" ? "red" : "blue");
      points.forEach((p) => right.dot(...p, now.kind === "explodes" ? "dot-red" : "dot-blue", 2.6));
      const [one, two] = now.rates.map((r) => r.re), left = tsl.number(now.factor);
      const tail = {
        converges: `a step leaves ${left} of its direction's distance, from the same side: it converges`,
        zigzags: `each step oversteps and leaves ${left} of the distance, on the other side: it zigzags, and converges`,
        explodes: `above 2, so that each step oversteps to ${left} times the distance: it explodes`,
      }[now.kind];
      verdict.textContent = `Γ⁻¹Σ̂ has the eigenvalues ${tsl.number(one)} and ${tsl.number(two)}. The one farther from 1 decides, ${tsl.number(one)}: ${tail}. ` +
        `Error after ${STEPS} steps: ${tsl.number(now.errors[STEPS])}, at the start ${tsl.number(now.errors[0])}.`;
      box.dataset.kind = now.kind;
    }
    draw();
  });
})();
