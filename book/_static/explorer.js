// The error of thinking with an unlimited test prompt, mode by mode: the formulas of tsl.theory.gamma and
// tsl.theory.cot_error_limit for commuting power-law covariances. tests/test_explorer.py holds the two equal.
(function () {
  "use strict";
  const root = document.getElementById("tsl-explorer");
  if (!root) return;
  const D = 10, STEPS = 20, W = 340, H = 240, LEFT = 58, BOTTOM = 38, TOP = 12, RIGHT = 10;
  const controls = [
    { id: "alpha", label: "training spectrum α", min: 0, max: 1.5, step: 0.05, value: 1 },
    { id: "beta", label: "test spectrum β", min: 0, max: 1.5, step: 0.05, value: 1 },
    { id: "n", label: "training examples n", min: 5, max: 100, step: 1, value: 20 },
    { id: "k", label: "thoughts k", min: 0, max: STEPS, step: 1, value: 5 },
  ];

  function factors(alpha, beta, n) {
    const power = (exponent) => Array.from({ length: D }, (_, i) => Math.pow(i + 1, -exponent));
    const train = power(alpha), trace = train.reduce((a, b) => a + b, 0);
    return power(beta).map((sigma, i) => 1 - sigma / ((1 + 1 / n) * train[i] + trace / n));
  }
  const error = (shrink, k) => shrink.reduce((sum, f) => sum + Math.pow(f * f, k), 0);

  function element(name, attributes, parent, text) {
    const svg = ["svg", "line", "rect", "path", "circle", "text", "title"].includes(name);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  }

  root.replaceChildren();
  const form = element("div", { class: "tsl-ex-controls" }, root);
  const inputs = {};
  for (const control of controls) {
    const label = element("label", {}, form);
    const line = element("span", {}, label, control.label + " = ");
    const shown = element("output", {}, line);
    const input = element("input", { type: "range", id: "tsl-ex-" + control.id, min: control.min, max: control.max, step: control.step }, label);
    input.value = control.value;
    input.addEventListener("input", draw);
    inputs[control.id] = { input, shown };
  }
  const panels = element("div", { class: "tsl-ex-panels" }, root);
  const bars = element("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "What one thought leaves of the error in each direction" }, panels);
  const curve = element("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Error against the number of thoughts" }, panels);
  const verdict = element("p", { class: "tsl-ex-verdict", "aria-live": "polite" }, root);

  function frame(svg, xTicks, yTicks, x, y, xName, yName) {
    svg.replaceChildren();
    for (const [value, name] of yTicks) {
      element("line", { x1: LEFT, x2: W - RIGHT, y1: y(value), y2: y(value), class: "tsl-ex-grid" }, svg);
      element("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, svg, name);
    }
    for (const [value, name] of xTicks) element("text", { x: x(value), y: H - BOTTOM + 16, "text-anchor": "middle" }, svg, name);
    element("text", { x: (LEFT + W - RIGHT) / 2, y: H - 5, "text-anchor": "middle" }, svg, xName);
    element("text", { x: 11, y: (TOP + H - BOTTOM) / 2, "text-anchor": "middle", transform: `rotate(-90 11 ${(TOP + H - BOTTOM) / 2})` }, svg, yName);
  }

  function draw() {
    const value = {};
    for (const control of controls) {
      value[control.id] = Number(inputs[control.id].input.value);
      inputs[control.id].shown.textContent = control.step < 1 ? value[control.id].toFixed(2) : value[control.id];
    }
    const shrink = factors(value.alpha, value.beta, value.n);

    const top = Math.max(1.25, ...shrink.map(Math.abs)) * 1.05;
    const bx = (i) => LEFT + ((i + 0.5) * (W - LEFT - RIGHT)) / D;
    const by = (v) => H - BOTTOM - (v / top) * (H - BOTTOM - TOP);
    const unit = top > 4 ? Math.ceil(top / 4) : 1;
    const ticks = [0, 1];
    for (let v = unit; v <= top; v += unit) if (!ticks.includes(v)) ticks.push(v);
    frame(bars, shrink.map((_, i) => [i, String(i + 1)]), ticks.map((v) => [v, String(v)]), bx, by, "direction i", "factor per thought");
    shrink.forEach((f, i) => {
      const size = Math.abs(f), width = (0.62 * (W - LEFT - RIGHT)) / D;
      const bar = element("rect", { x: bx(i) - width / 2, y: by(size), width, height: by(0) - by(size), class: size > 1 ? "tsl-ex-grows" : "tsl-ex-shrinks" }, bars);
      element("title", {}, bar, `direction ${i + 1}: |1 − σ/γ| = ${size.toFixed(3)}`);
    });
    element("line", { x1: LEFT, x2: W - RIGHT, y1: by(1), y2: by(1), class: "tsl-ex-limit" }, bars);

    const errors = Array.from({ length: STEPS + 1 }, (_, k) => error(shrink, k));
    const log = (v) => Math.log10(Math.max(v, 1e-60));
    const low = Math.floor(Math.min(-1, ...errors.map(log))), high = Math.ceil(Math.max(1.2, ...errors.map(log)));
    const cx = (k) => LEFT + (k / STEPS) * (W - LEFT - RIGHT);
    const cy = (v) => H - BOTTOM - ((log(v) - low) / (high - low)) * (H - BOTTOM - TOP);
    const stride = Math.ceil((high - low) / 5), powers = [];
    for (let p = low; p <= high; p += stride) powers.push([Math.pow(10, p), "1e" + p]);
    frame(curve, [0, 5, 10, 15, 20].map((k) => [k, String(k)]), powers, cx, cy, "thoughts k", "error");
    element("path", { d: errors.map((v, k) => `${k ? "L" : "M"}${cx(k).toFixed(2)} ${cy(v).toFixed(2)}`).join(""), class: "tsl-ex-curve" }, curve);
    element("circle", { cx: cx(value.k), cy: cy(errors[value.k]), r: 5, class: "tsl-ex-here" }, curve);

    const best = errors.indexOf(Math.min(...errors));
    const worst = Math.max(...shrink.map(Math.abs));
    root.dataset.error = String(errors[value.k]);
    verdict.textContent =
      `After ${value.k} thoughts the error is ${errors[value.k].toPrecision(3)} (an answer of zero costs ${D}). ` +
      (worst > 1 ? `It grows in the long run, ${worst.toFixed(2)}² = ${(worst * worst).toFixed(2)}-fold a thought: best is k = ${best}.`
                 : `More thinking always helps: the slowest direction shrinks by ${worst.toFixed(3)} a thought.`);
  }
  draw();
})();
