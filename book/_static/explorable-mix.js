// Chapter 7: mix two tasks. Two skewed tasks of two dimensions, the second with its axes turned; the model is trained on both and
// tested on a third, equally skewed. Γ = E[Σ̂²] E[Σ̂]⁻¹, and Σ against 2Γ says what becomes of thinking with an endless prompt.
(function () {
  "use strict";
  const STEPS = 20, radians = (degrees) => (degrees * Math.PI) / 180;

  // Γ of training on tasks with probabilities: not their mean, since a task counts where it has variance.
  function gammaMixture(tasks, probs, n) {
    let first = [[0, 0], [0, 0]], second = first;
    tasks.forEach((task, i) => {
      const spread = tsl.combine(tsl.product(task, task), task, 1 + 1 / n, tsl.trace(task) / n);
      first = tsl.combine(first, task, 1, probs[i]);
      second = tsl.combine(second, spread, 1, probs[i]);
    });
    return tsl.product(second, tsl.inverse(first));
  }

  // ‖(I − Γ⁻¹Σ)^k‖²_F: the error after k steps, for an endless test prompt.
  function errors(gamma, test) {
    const step = tsl.combine(tsl.identity(2), tsl.product(tsl.inverse(gamma), test), 1, -1), found = [];
    for (let k = 0, left = tsl.identity(2); k <= STEPS; k++, left = tsl.product(step, left)) found.push(tsl.squares(left));
    return found;
  }

  function state({ weak, angle, share, n, turn }) {
    const tasks = [tsl.ellipse(1, weak, 0), tsl.ellipse(1, weak, radians(angle))], test = tsl.ellipse(1, weak, radians(turn));
    const gamma = gammaMixture(tasks, [1 - share, share], n), rates = tsl.eigen2(tsl.product(tsl.inverse(gamma), test));
    const alone = tasks.map((task) => errors(tsl.gamma(task, n), test));
    return { tasks, test, gamma, rates, errors: errors(gamma, test), alone, diverges: Math.abs(1 - rates[0].re) > 1 };
  }

  // The curve xᵀ A⁻¹ x = 1: one such curve lies within another exactly if the matrices are so ordered.
  function outline(a) {
    const [[p, q], [, r]] = a, low = Math.sqrt(p), side = q / low, rest = Math.sqrt(Math.max(r - side * side, 0));
    return Array.from({ length: 97 }, (_, i) => {
      const t = (i / 96) * 2 * Math.PI;
      return [low * Math.cos(t), side * Math.cos(t) + rest * Math.sin(t)];
    });
  }

  tsl.mix = { state, gammaMixture, STEPS };

  tsl.start("mix", (place, box) => {
    const controls = tsl.sliders(place, [
      { name: "angle", label: "second task turned by", min: 0, max: 90, step: 5, value: 90, show: (v) => `${v}°` },
      { name: "share", label: "its share π", min: 0, max: 1, step: 0.01, value: 0.5 },
      { name: "weak", label: "weak eigenvalue of every task", min: 0.02, max: 1, step: 0.02, value: 0.1 },
      { name: "n", label: "examples of a training prompt n", values: [5, 10, 20, 50, 100, 1000], value: 100 },
      { name: "turn", label: "test turned by", min: 0, max: 90, step: 5, value: 90, show: (v) => `${v}°` },
    ], draw);
    const choose = (values) => () => { controls.set({ weak: 0.1, n: 100, ...values }); draw(); };
    tsl.buttons(place, "Try:", [
      ["the first task alone, on the second", choose({ angle: 90, share: 0, turn: 90 })],
      ["half and half", choose({ angle: 90, share: 0.5, turn: 90 })],
      ["one prompt in ten is enough", choose({ angle: 90, share: 0.1, turn: 90 })],
      ["the first alone, tested in between", choose({ angle: 90, share: 0, turn: 45 })],
      ["short training prompts", choose({ angle: 90, share: 0, turn: 90, n: 5 })],
    ]);
    const panels = tsl.panels(place);
    const plane = tsl.panel(panels, "Ellipses of the two tasks, of the test and of twice Gamma", { height: 284 });
    const chart = tsl.panel(panels, "Error against steps of thinking, for an endless test prompt", { height: 284 });
    tsl.legend(place, [["theory", "2Γ, and the mixture's error"], ["red", "Σ of the test"], ["blue", "first task; trained on it alone"], ["green", "second task; trained on it alone"]]);
    const verdict = tsl.verdict(place);

    function draw() {
      const set = controls.values(), now = state(set), [[a, b], [c, d]] = now.gamma;
      const pens = plane.draw({ x: [-1.65, 1.65], y: [-1.42, 1.42], xName: "first direction", yName: "second direction" });
      pens.line(outline(now.tasks[0]), "blue");
      pens.line(outline(now.tasks[1]), "green");
      pens.line(outline(now.test), "red");
      // Tasks with the same two eigenvalues make Γ symmetric, so the picture is exact: Σ sticks out where thinking diverges.
      pens.line(outline([[2 * a, b + c], [b + c, 2 * d]]), "theory");
      const worst = now.rates[0];
      if (now.diverges) pens.line([-1.6, 1.6].map((s) => worst.vector.map((v) => s * v)), "limit");
      const right = chart.draw({ x: [0, STEPS], y: tsl.decades([...now.errors, ...now.alone.flat()], 12), logY: true, xName: "steps of thinking k", yName: "error, m → ∞" });
      ["blue", "green"].forEach((color, i) => right.line(now.alone[i].map((v, k) => [k, v]), color));
      right.line(now.errors.map((v, k) => [k, v]), "theory");
      const [one, two] = now.rates.map((r) => tsl.number(r.re));
      verdict.textContent = `Γ⁻¹Σ has the eigenvalues ${one} and ${two}. ` + (now.diverges
        ? `${one} lies above 2: Σ sticks out of 2Γ along the thin line, and there the error grows ${tsl.number((1 - worst.re) ** 2)}-fold a step. `
        : `Neither lies above 2: thinking converges, its slowest mode keeping ${tsl.number((1 - worst.re) ** 2)} of its error a step. `) +
        `After ${STEPS} steps: mixture ${tsl.number(now.errors[STEPS])}, first task alone ${tsl.number(now.alone[0][STEPS])}, second alone ${tsl.number(now.alone[1][STEPS])}.`;
      box.dataset.diverges = now.diverges;
    }
    draw();
  });
})();
