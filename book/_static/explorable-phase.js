// Chapter 5: the phase diagram as a controller. Isotropic features in d dimensions, Γ = g I with g = 1 + (1 + d)/n: an eigenvalue
// x of Σ̂ multiplies its mode by 1 − x/g in every step, so the spectrum of Σ̂ against 2g says what becomes of thinking.
(function () {
  "use strict";
  const D = 20, STEPS = 20, PROMPTS = 101, X = [0.05, 3.6], Y = [0.05, 7.2];
  const BITS = 400n; // binary places of the exact mean, whose terms cancel badly

  const scale = (n) => 1 + (1 + D) / n; // g
  const edge = (m) => (1 + Math.sqrt(D / m)) ** 2; // where the spectrum of Σ̂ ends, in many dimensions
  const phase = (m, n) => (edge(m) > 2 * scale(n) ? "overthinks" : m < D ? "saturates" : "converges");
  const law = (n) => Array.from({ length: STEPS + 1 }, (_, k) => D * Math.pow(1 - 1 / scale(n), 2 * k));

  // The density of Marchenko and Pastur; for m < d a share 1 − m/d of the eigenvalues is zero besides.
  function density(m, x) {
    const c = D / m, low = (1 - Math.sqrt(c)) ** 2, high = edge(m);
    return x <= low || x >= high ? 0 : Math.sqrt((high - x) * (x - low)) / (2 * Math.PI * c * x);
  }

  // Exact mean error by zonal polynomials: the sum of tsl.exact.trace_moment, its partitions (a, b, 1, …, 1) once for all d and m.
  const weights = [];
  function partitions(p) {
    if (weights[p]) return weights[p];
    const found = [];
    for (let b = 0; b <= p / 2; b++) {
      for (let ones = 0; ones <= (b ? p - 2 * b : 0); ones++) {
        const a = p - b - ones, rows = [a, ...(b ? [b] : []), ...new Array(ones).fill(1)];
        let hooks = 1n, above = BigInt(2 * p);
        rows.forEach((row, i) => {
          for (let j = 0; j < row; j++) {
            const leg = rows.filter((r) => r > j).length - i - 1, arm = row - j - 1;
            hooks *= BigInt((2 * arm + leg + 1) * (2 * arm + leg + 2));
            if (i || j) above *= BigInt(2 * j - i);
          }
        });
        found.push({ a, b, ones, above, hooks });
      }
    }
    return (weights[p] = found);
  }

  function exactMean(d, m, n, steps) {
    const most = 2 * steps, factor = (c) => BigInt((d + c) * (m + c));
    const products = (place) => {
      const list = [1n];
      for (let j = 0; j < most; j++) list.push(list[j] * factor(place(j)));
      return list;
    };
    const first = products((j) => 2 * j), second = products((j) => 2 * j - 1), column = products((i) => -2 - i);
    // (−1)^p E tr (Σ̂/g)^p in units of 2^−BITS, with 1/(m g) = n / (m (n + 1 + d)).
    const up = BigInt(n), down = BigInt(m) * BigInt(n + 1 + d), power = [BigInt(d) << BITS];
    for (let p = 1; p <= most; p++) {
      let moment = 0n;
      for (const { a, b, ones, above, hooks } of partitions(p)) moment += ((above * first[a] * second[b] * column[ones]) << BITS) / hooks;
      power.push(((p % 2 ? -moment : moment) * up ** BigInt(p)) / down ** BigInt(p));
    }
    return Array.from({ length: steps + 1 }, (_, k) => {
      let total = 0n, choose = 1n; // of 2k
      for (let p = 0; p <= 2 * k; p++) {
        total += choose * power[p];
        choose = (choose * BigInt(2 * k - p)) / BigInt(p + 1);
      }
      return Number(total) / Math.pow(2, Number(BITS));
    });
  }

  // Eigenvalues of one Σ̂, without its features: those of B Bᵀ/m, B bidiagonal with chi numbers (Dumitriu and Edelman).
  function spectrum(m, random) {
    const r = Math.min(D, m), big = Math.max(D, m), chi = (df) => Math.sqrt(tsl.chiSquare(random, df));
    const main = Array.from({ length: r }, (_, i) => chi(big - i)), below = Array.from({ length: r - 1 }, (_, i) => chi(r - 1 - i));
    const a = main.map((v, i) => (v * v + (i ? below[i - 1] ** 2 : 0)) / m), b = below.map((v, i) => (v * main[i]) / m);
    const smaller = (x) => { // how many eigenvalues lie below x (Sturm)
      let count = 0, pivot = 1;
      for (let i = 0; i < r; i++) {
        pivot = a[i] - x - (i ? b[i - 1] ** 2 / pivot : 0);
        if (Math.abs(pivot) < 1e-300) pivot = -1e-300;
        if (pivot < 0) count++;
      }
      return count;
    };
    const top = Math.max(...a.map((v, i) => v + Math.abs(b[i] || 0) + Math.abs(b[i - 1] || 0)));
    const found = Array.from({ length: r }, (_, i) => {
      let low = 0, high = top;
      for (let step = 0; step < 50; step++) {
        const middle = (low + high) / 2;
        if (smaller(middle) > i) high = middle;
        else low = middle;
      }
      return (low + high) / 2;
    });
    return [...new Array(D - r).fill(0), ...found];
  }

  const after = (eigenvalues, g, k) => eigenvalues.reduce((sum, x) => sum + Math.pow((1 - x / g) ** 2, k), 0);

  function state(m, n, seed = 2) {
    const random = tsl.random(seed), g = scale(n), spectra = Array.from({ length: PROMPTS }, () => spectrum(m, random));
    const steps = Array.from({ length: STEPS + 1 }, (_, k) => k);
    const median = steps.map((k) => tsl.quantile(spectra.map((s) => after(s, g, k)), 0.5));
    return { g, edge: edge(m), phase: phase(m, n), spectra, median, mean: exactMean(D, m, n, STEPS), law: law(n) };
  }

  tsl.phase = { D, STEPS, scale, edge, phase, law, density, exactMean, spectrum, state };

  tsl.start("phase", (place, box) => {
    const clamp = (v, [low, high]) => Math.max(low, Math.min(high, v));
    let at = [0.2, 0.5]; // d/m, d/n
    const go = (a, b) => { at = [clamp(a, X), clamp(b, Y)]; draw(); };
    tsl.buttons(place, "Try:", [
      ["it converges", () => go(0.1, 0.5)],
      ["it saturates: m below d", () => go(1.6, 3)],
      ["it overthinks: long training, short prompt", () => go(0.5, 0.1)],
      ["on the boundary", () => go(0.4, ((1 + Math.sqrt(0.4)) ** 2 / 2 - 1) / (1 + 1 / D))],
    ]);
    const panels = tsl.panels(place);
    const map = tsl.panel(panels, "Phase diagram: d/m across, d/n upwards", { interactive: true });
    const bulk = tsl.panel(panels, "Spectrum of the prompt's covariance against twice g");
    const curve = tsl.panel(panels, "Error against steps of thinking");
    const words = tsl.element("div", {}, panels); // the fourth of four places
    tsl.legend(words, [["dot-amber", "here: click, drag, or use the arrow keys"], ["blue", "sampled: spectrum, median error"], ["theory", "predicted: boundary, Marchenko–Pastur, exact mean error"], ["bound", "scaling law"], ["red", "2g: modes beyond it grow"]]);
    const verdict = tsl.verdict(words);
    const handle = tsl.handle("point", go, (a, b) => go(at[0] * 1.15 ** a, at[1] * 1.15 ** b));
    let pens;
    map.svg.addEventListener("click", (event) => go(...pens.at(event)));

    function draw() {
      const m = Math.round(D / at[0]), n = Math.max(1, Math.round(D / at[1])), now = state(m, n);
      pens = map.draw({ x: X, y: Y, logX: true, logY: true, xName: "d/m (short test prompts: right)", yName: "d/n (short training: up)", xTicks: [0.1, 0.3, 1, 3], yTicks: [0.1, 0.3, 1, 3] });
      const across = Array.from({ length: 80 }, (_, i) => X[0] * Math.pow(X[1] / X[0], i / 79));
      const border = across.map((c) => [c, Math.max(1e-3, ((1 + Math.sqrt(c)) ** 2 / 2 - 1) / (1 + 1 / D))]);
      pens.area([...border.filter(([c]) => c >= 1), [X[1], Y[1]], [1, Y[1]]], "pale-blue");
      pens.area([...border, [X[1], 1e-3]], "pale-red");
      pens.line(border.filter(([, v]) => v > 1e-3), "theory");
      pens.text(0.13, 2.5, "converges");
      pens.text(1.95, 5.2, "saturates");
      pens.text(1.1, 0.12, "overthinks");
      handle(pens, ...at, `d/m ${tsl.number(at[0], 2)}, d/n ${tsl.number(at[1], 2)}`);

      const far = Math.max(now.edge, 2 * now.g) * 1.15, bins = 30, width = far / bins, counts = new Array(bins).fill(0);
      for (const s of now.spectra) for (const x of s) if (x > 0 && x < far) counts[Math.floor(x / width)]++;
      const bars = counts.map((count) => count / (PROMPTS * D * width));
      const grid = Array.from({ length: 400 }, (_, i) => ((i + 0.5) * far) / 400), dense = grid.map((x) => [x, density(m, x)]);
      const top = Math.min(3, Math.max(...bars, ...dense.map((p) => p[1]))) * 1.1;
      const middle = bulk.draw({ x: [0, far], y: [0, top], xName: "eigenvalues of Σ̂", yName: "density" });
      bars.forEach((v, i) => middle.bar(i * width, (i + 1) * width * 0.98 + i * width * 0.02, 0, v, (i + 0.5) * width > 2 * now.g ? "fill-red" : "fill-blue"));
      middle.line(dense, "theory");
      middle.line([[2 * now.g, 0], [2 * now.g, top]], "red");
      middle.text(2 * now.g - far * 0.02, top * 0.92, "2g", "end");

      const right = curve.draw({ x: [0, STEPS], y: tsl.decades([...now.median, ...now.mean.map((v) => Math.min(v, 1e6))], 10), logY: true, xName: "steps of thinking k", yName: "error ‖ŵ − w*‖²" });
      right.line(now.law.map((v, k) => [k, v]), "bound");
      right.line(now.median.map((v, k) => [k, v]), "blue");
      right.line(now.mean.map((v, k) => [k, v]), "theory");
      const best = now.mean.indexOf(Math.min(...now.mean)), relation = now.edge > 2 * now.g ? "beyond" : "below";
      verdict.textContent = `d = ${D}, m = ${m}, n = ${n}: the spectrum ends at (1 + √(d/m))² = ${tsl.number(now.edge)}, ${relation} 2g = ${tsl.number(2 * now.g)}: ` +
        `a typical chain ${now.phase}${now.phase === "saturates" ? ` at d − m = ${D - m}` : ""}. After 10 steps: law ${tsl.number(now.law[10])}, median ${tsl.number(now.median[10])}, ` +
        `exact mean ${tsl.number(now.mean[10])}. The mean is least after ${best} ${best === 1 ? "step" : "steps"}${best < STEPS ? ", and grows from there on" : " or more, and grows in the end"}.`;
      box.dataset.phase = now.phase;
    }
    draw();
  });
})();
