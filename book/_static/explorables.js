// What the book's explorables share: seeded draws, small matrices, sliders, plots. No library, no request to anywhere.
// Each explorable is a file of its own, explorable-NAME.js, which puts its numbers into window.tsl.NAME and draws them;
// tests/test_explorer.py holds those numbers equal to the package's. Loaded only by pages with an {explorable}.
(function () {
  "use strict";
  if (window.tsl) return; // a page with two explorables asks for this file twice
  const tsl = (window.tsl = {});

  // --- Draws: the same numbers at each load, on every machine.

  // Mulberry32: uniform numbers in [0, 1) from a seed.
  tsl.random = (seed) => () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };

  // Box and Muller: a standard normal number.
  tsl.normal = (random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

  // Marsaglia and Tsang: a chi-square number; a gamma number of shape df/2, twice.
  tsl.chiSquare = (random, df) => {
    const boost = df < 2 ? Math.pow(1 - random(), 2 / df) : 1; // the method wants a shape of at least 1
    const d = (df < 2 ? df / 2 + 1 : df / 2) - 1 / 3, c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const z = tsl.normal(random), v = Math.pow(1 + c * z, 3);
      if (v > 0 && Math.log(1 - random()) < 0.5 * z * z + d - d * v + d * Math.log(v)) return 2 * d * v * boost;
    }
  };

  // --- Matrices: arrays of rows.

  tsl.identity = (d) => Array.from({ length: d }, (_, i) => Array.from({ length: d }, (_, j) => (i === j ? 1 : 0)));
  tsl.diagonal = (values) => values.map((v, i) => values.map((_, j) => (i === j ? v : 0)));
  tsl.transpose = (a) => a[0].map((_, j) => a.map((row) => row[j]));
  tsl.apply = (a, x) => a.map((row) => row.reduce((sum, v, j) => sum + v * x[j], 0));
  tsl.product = (a, b) => {
    const columns = tsl.transpose(b);
    return a.map((row) => columns.map((column) => row.reduce((sum, v, j) => sum + v * column[j], 0)));
  };
  tsl.combine = (a, b, s, t) => a.map((row, i) => row.map((v, j) => s * v + t * b[i][j])); // s a + t b
  tsl.trace = (a) => a.reduce((sum, row, i) => sum + row[i], 0);
  tsl.squares = (a) => a.reduce((sum, row) => sum + row.reduce((s, v) => s + v * v, 0), 0); // ‖a‖²_F

  // Inverse by elimination with pivots.
  tsl.inverse = (a) => {
    const d = a.length, unit = tsl.identity(d), m = a.map((row, i) => [...row, ...unit[i]]);
    for (let k = 0; k < d; k++) {
      let best = k;
      for (let i = k + 1; i < d; i++) if (Math.abs(m[i][k]) > Math.abs(m[best][k])) best = i;
      [m[k], m[best]] = [m[best], m[k]];
      const pivot = m[k][k];
      m[k] = m[k].map((v) => v / pivot);
      for (let i = 0; i < d; i++) {
        const factor = m[i][k];
        if (i !== k && factor) m[i] = m[i].map((v, j) => v - factor * m[k][j]);
      }
    }
    return m.map((row) => row.slice(d));
  };

  // Covariance in two dimensions: eigenvalue `first` along the angle, `second` across it.
  tsl.ellipse = (first, second, angle) => {
    const c = Math.cos(angle), s = Math.sin(angle);
    return [[first * c * c + second * s * s, (first - second) * c * s], [(first - second) * c * s, first * s * s + second * c * c]];
  };

  // Eigenvalues of a product of two positive 2 × 2 matrices, which are real, with a vector each; the farther from 1 first.
  tsl.eigen2 = ([[a, b], [c, d]]) => {
    const root = Math.sqrt(Math.max(((a - d) / 2) ** 2 + b * c, 0));
    return [1, -1].map((sign) => {
      const re = (a + d) / 2 + sign * root;
      const pair = [[b, re - a], [re - d, c]].sort((p, q) => Math.hypot(...q) - Math.hypot(...p))[0], size = Math.hypot(...pair);
      return { re, vector: size > 1e-12 ? pair.map((v) => v / size) : sign > 0 ? [1, 0] : [0, 1] };
    }).sort((p, q) => Math.abs(1 - q.re) - Math.abs(1 - p.re));
  };

  // Σ̂ of m Gaussian features: X = R G with the rows of G standard normal, where R Rᵀ is the covariance.
  tsl.gram = (root, m, random) => {
    const d = root.length, sum = root.map(() => new Array(d).fill(0));
    for (let i = 0; i < m; i++) {
      const x = tsl.apply(root, root.map(() => tsl.normal(random)));
      for (let a = 0; a < d; a++) for (let b = 0; b < d; b++) sum[a][b] += (x[a] * x[b]) / m;
    }
    return sum;
  };

  // The same for many features without drawing them: Bartlett's lower triangle of chi and normal numbers; m < d is allowed.
  tsl.whiteGram = (d, m, random) => {
    const half = Array.from({ length: d }, (_, i) => Array.from({ length: Math.min(d, m) }, (_, j) =>
      j < i ? tsl.normal(random) : j === i ? Math.sqrt(tsl.chiSquare(random, m - i)) : 0));
    return half.map((a) => half.map((b) => a.reduce((sum, v, j) => sum + v * b[j], 0) / m));
  };

  // Γ of training on one Gaussian task: (1 + 1/n) Λ + (tr Λ + σ²)/n I.
  tsl.gamma = (train, n, noise = 0) =>
    tsl.combine(train, tsl.identity(train.length), 1 + 1 / n, (tsl.trace(train) + noise * noise) / n);

  // The quantile of some numbers, between neighbours by a straight line.
  tsl.quantile = (values, q) => {
    const sorted = [...values].sort((a, b) => a - b), place = q * (sorted.length - 1), low = Math.floor(place);
    const next = sorted[Math.min(low + 1, sorted.length - 1)];
    return place === low ? sorted[low] : sorted[low] + (place - low) * (next - sorted[low]);
  };

  // --- Numbers for readers.

  const raised = (power) => String(power).replace("-", "⁻").replace(/\d/g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]);
  tsl.number = (v, digits = 3) => {
    if (!Number.isFinite(v)) return v > 0 ? "∞" : "−∞";
    const size = Math.abs(v);
    if (v !== 0 && (size >= 1e5 || size < 1e-3)) {
      const [mantissa, power] = v.toExponential(1).split("e");
      return `${mantissa.replace("-", "−")}·10${raised(Number(power))}`;
    }
    return String(size >= 1000 ? Math.round(v) : Number(v.toPrecision(digits))).replace("-", "−");
  };

  // --- The page.

  tsl.element = (name, attributes, parent, text) => {
    const drawn = ["svg", "g", "line", "rect", "path", "circle", "text", "title", "clipPath"].includes(name);
    const node = drawn ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  };

  // Fill every place that an {explorable} left for `name`. `build(place)` adds controls and panels; the static figure
  // stays for paper, and for those without scripts.
  tsl.start = (name, build) => {
    for (const box of document.querySelectorAll(`[data-explorable="${name}"]`)) {
      const live = box.querySelector(".tsl-exp-live");
      live.replaceChildren();
      live.hidden = false;
      box.classList.add("tsl-exp-on");
      build(live, box);
    }
  };

  // A slider: { label, min, max, step, value }, or { label, values, value } for a list of numbers. Calls `changed`.
  let count = 0;
  tsl.slider = (parent, options, changed) => {
    const { label, values, show = (v) => tsl.number(v) } = options;
    const id = `tsl-exp-${++count}`; // named by `for`: without it the label would belong to the output
    const holder = tsl.element("label", { for: id }, parent);
    const line = tsl.element("span", {}, holder, `${label} = `);
    const shown = tsl.element("output", {}, line);
    const range = values ? { min: 0, max: values.length - 1, step: 1 } : { min: options.min, max: options.max, step: options.step };
    const input = tsl.element("input", { type: "range", id, "data-name": options.name, ...range }, holder);
    const read = () => (values ? values[Number(input.value)] : Number(input.value));
    const say = () => {
      shown.textContent = show(read());
      input.setAttribute("aria-valuetext", shown.textContent);
    };
    const set = (value) => {
      input.value = values ? values.indexOf(value) : value;
      say();
    };
    input.addEventListener("input", () => { say(); changed(); });
    set(options.value);
    return { get value() { return read(); }, set, input };
  };

  // Sliders by name; `set({name: value})` moves several, and `values()` reads all.
  tsl.sliders = (parent, list, changed) => {
    const form = tsl.element("div", { class: "tsl-exp-controls" }, parent), all = {};
    for (const options of list) all[options.name] = tsl.slider(form, options, changed);
    return {
      form,
      all,
      values: () => Object.fromEntries(Object.entries(all).map(([name, slider]) => [name, slider.value])),
      set: (some) => { for (const [name, value] of Object.entries(some)) if (all[name]) all[name].set(value); },
    };
  };

  // Buttons for the things to try: [[text, action], …].
  tsl.buttons = (parent, title, list) => {
    const row = tsl.element("div", { class: "tsl-exp-try", role: "group", "aria-label": title }, parent);
    tsl.element("span", {}, row, title);
    for (const [text, action] of list) tsl.element("button", { type: "button" }, row, text).addEventListener("click", action);
    return row;
  };

  tsl.panels = (parent) => tsl.element("div", { class: "tsl-exp-panels" }, parent);
  // A place for a table; where that is too wide for a phone, a finger or the arrow keys move it.
  tsl.wide = (parent, label) => tsl.element("div", { class: "tsl-exp-wide", tabindex: 0, role: "region", "aria-label": label }, parent);
  tsl.verdict = (parent) => tsl.element("p", { class: "tsl-exp-verdict", "aria-live": "polite" }, parent);

  // What the colours and dashes of the panels mean: [[class of the line, text], …].
  tsl.legend = (parent, list) => {
    const row = tsl.element("p", { class: "tsl-exp-legend" }, parent);
    for (const [style, text] of list) {
      const item = tsl.element("span", {}, row);
      const sample = tsl.element("svg", { viewBox: "0 0 26 10", width: 26, height: 10, "aria-hidden": "true" }, item);
      if (style.startsWith("dot")) tsl.element("circle", { cx: 13, cy: 5, r: 4, class: `tsl-exp-${style}` }, sample);
      else tsl.element("line", { x1: 1, x2: 25, y1: 5, y2: 5, class: `tsl-exp-${style}` }, sample);
      item.append(` ${text}`);
    }
    return row;
  };

  // A panel with axes. `draw({x: [low, high], y, logX, logY, xName, yName, square})` clears it and returns scales and pens.
  tsl.panel = (parent, label, { interactive = false, width = 340, height = 250 } = {}) => {
    // What can be taken by hand must not stand inside of a role "img", whose parts no reader of screens is told of.
    const role = interactive ? "group" : "img";
    const svg = tsl.element("svg", { viewBox: `0 0 ${width} ${height}`, role, "aria-label": label }, parent);
    const clip = `tsl-exp-clip-${++count}`, left = 56, right = 10, top = 10, bottom = 38;
    const layer = tsl.element("g", {}, svg); // redrawn as a whole; handles stand above it and keep focus and pointer
    const draw = ({ x, y, logX = false, logY = false, xName, yName, xTicks, yTicks }) => {
      layer.replaceChildren();
      const scale = ([low, high], log, from, to) => (v) => {
        const f = log ? (Math.log(Math.max(v, 1e-300)) - Math.log(low)) / (Math.log(high) - Math.log(low)) : (v - low) / (high - low);
        return from + Math.max(-100, Math.min(100, f)) * (to - from);
      };
      const px = scale(x, logX, left, width - right), py = scale(y, logY, height - bottom, top);
      const box = tsl.element("clipPath", { id: clip }, layer);
      tsl.element("rect", { x: left, y: top, width: width - left - right, height: height - top - bottom }, box);
      for (const v of yTicks || ticks(y, logY)) {
        tsl.element("line", { x1: left, x2: width - right, y1: py(v), y2: py(v), class: "tsl-exp-grid" }, layer);
        tsl.element("text", { x: left - 6, y: py(v) + 4, "text-anchor": "end" }, layer, tick(v, logY));
      }
      for (const v of xTicks || ticks(x, logX)) {
        tsl.element("line", { x1: px(v), x2: px(v), y1: top, y2: height - bottom, class: "tsl-exp-grid" }, layer);
        tsl.element("text", { x: px(v), y: height - bottom + 16, "text-anchor": "middle" }, layer, tick(v, logX));
      }
      tsl.element("text", { x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" }, layer, xName);
      const middle = (top + height - bottom) / 2;
      tsl.element("text", { x: 11, y: middle, "text-anchor": "middle", transform: `rotate(-90 11 ${middle})` }, layer, yName);
      const inside = tsl.element("g", { "clip-path": `url(#${clip})` }, layer);
      const path = (points) => points.map(([a, b], i) => `${i ? "L" : "M"}${px(a).toFixed(2)} ${py(b).toFixed(2)}`).join("");
      return {
        svg, px, py, inside,
        line: (points, style) => points.length && tsl.element("path", { d: path(points), class: `tsl-exp-line tsl-exp-${style}` }, inside),
        area: (points, style) => tsl.element("path", { d: `${path(points)}Z`, class: `tsl-exp-${style}` }, inside),
        dot: (a, b, style, r = 4) => tsl.element("circle", { cx: px(a), cy: py(b), r, class: `tsl-exp-${style}` }, inside),
        bar: (a, b, from, to, style) => {
          const high = Math.min(py(from), py(to));
          return tsl.element("rect", { x: px(a), width: px(b) - px(a), y: high, height: Math.abs(py(from) - py(to)), class: `tsl-exp-${style}` }, inside);
        },
        text: (a, b, words, anchor = "middle") => tsl.element("text", { x: px(a), y: py(b), "text-anchor": anchor }, inside, words),
        // From a pointer's place to coordinates of the axes.
        at: (event) => {
          const seen = svg.getBoundingClientRect();
          const back = (v, [low, high], log, from, to) => {
            const f = (v - from) / (to - from);
            return log ? low * Math.pow(high / low, f) : low + f * (high - low);
          };
          return [
            back(((event.clientX - seen.left) / seen.width) * width, x, logX, left, width - right),
            back(((event.clientY - seen.top) / seen.height) * height, y, logY, height - bottom, top),
          ];
        },
      };
    };
    return { svg, draw };
  };

  // A handle that pointers drag and arrow keys move.
  tsl.handle = (name, moved, stepped) => {
    const handle = tsl.element("circle", { r: 8, class: "tsl-exp-handle", tabindex: 0, role: "button", "aria-roledescription": "movable point" });
    let pens = null;
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      event.preventDefault();
    });
    handle.addEventListener("pointermove", (event) => handle.hasPointerCapture(event.pointerId) && moved(...pens.at(event)));
    handle.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!way) return;
      event.preventDefault();
      stepped(...way);
    });
    return (panel, a, b, where) => {
      pens = panel;
      handle.setAttribute("cx", panel.px(a));
      handle.setAttribute("cy", panel.py(b));
      handle.setAttribute("aria-label", `${name} at ${where}; arrow keys move it`);
      if (handle.parentNode !== panel.svg) panel.svg.appendChild(handle);
    };
  };

  function tick(v, log) {
    const power = Math.round(Math.log10(v));
    return log && Math.abs(power) > 2 ? `10${raised(power)}` : tsl.number(v);
  }

  function ticks([low, high], log) {
    if (log) {
      const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
      const stride = Math.max(1, Math.ceil((last - first) / 5)), found = [];
      for (let p = first; p <= last; p += stride) found.push(Math.pow(10, p));
      if (last - first > 1) return found;
      return [1, 2, 5].flatMap((f) => [first - 1, first, last].map((p) => f * Math.pow(10, p))).filter((v, i, all) => v >= low && v <= high && all.indexOf(v) === i);
    }
    const raw = (high - low) / 5, unit = Math.pow(10, Math.floor(Math.log10(raw)));
    const step = [1, 2, 5, 10].map((f) => f * unit).find((s) => s >= raw), found = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + 1e-9 * step; v += step) found.push(Number(v.toPrecision(6)));
    return found;
  }

  // The range of positive numbers for a log axis, with some room and at most `most` powers of ten.
  tsl.decades = (values, most = 12) => {
    const kept = values.filter((v) => v > 0 && Number.isFinite(v)), high = Math.min(1e8, 1.5 * Math.max(...kept));
    return [Math.max(Math.min(...kept, high / 4) / 1.5, high / Math.pow(10, most)), high];
  };
})();
