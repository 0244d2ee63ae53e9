// Chapter 11: your log. A table of right and wrong answers at several levels of thinking, judged question by question as `tsl
// diagnose` judges it: gained, lost, Tango's interval, the exact test of flipped signs, Holm's correction. The text is read here,
// in the page, and goes nowhere. What the command finds besides (copies, duplicates, graders that change) is not looked for.
(function () {
  "use strict";
  const SPELLINGS = {
    question: "question question_id problem problem_id item item_id task_id prompt_id qid id uid idx",
    level: "level budget effort reasoning_effort thinking_budget thinking_level thinking reasoning mode setting",
    correct: "correct is_correct grade right score accuracy acc passed pass success result outcome",
    model: "model model_name model_id llm system",
    benchmark: "benchmark dataset bench suite eval task domain",
    order: "level_order order level_index level_rank",
  };
  const RIGHT = "a right correct true yes pass passed t y success solved".split(" ");
  const WRONG = ("b wrong incorrect false no fail failed f n failure unsolved " +
    "c not_attempted not_attempt abstained abstain refused skipped no_answer unanswered").split(" ");
  const OFF = ["none", "nothink", "nothinking", "off", "false", "instant", "direct", "base", "disabled", "non"];
  const ON = ["think", "thinking", "on", "true", "enabled", "reasoning"];
  const WORDS = { minimal: 1, min: 1, low: 2, medium: 3, med: 3, mid: 3, high: 4, xhigh: 5, max: 6 };
  const plain = (name) => name.trim().toLowerCase().replace(/[\s-]+/g, "_");

  // --- Reading.

  // Rows of a table with commas, semicolons or tabs; a field may stand in quotes.
  function fields(text) {
    const head = text.split("\n", 1)[0], mark = ["\t", ";", ","].sort((a, b) => head.split(b).length - head.split(a).length)[0];
    const rows = [[]];
    let field = "", quoted = false;
    for (let i = 0; i <= text.length; i++) {
      const c = text[i];
      if (quoted && c !== undefined) {
        if (c === '"' && text[i + 1] === '"') field += text[++i];
        else if (c === '"') quoted = false;
        else field += c;
      } else if (c === '"' && field === "") quoted = true;
      else if (c === mark || c === "\n" || c === undefined) {
        rows[rows.length - 1].push(field.trim());
        field = "";
        if (c === "\n") rows.push([]);
      } else if (c !== "\r") field += c;
    }
    return rows.filter((row) => row.some((value) => value !== ""));
  }

  function share(text) {
    if (RIGHT.includes(plain(text))) return 1;
    if (WRONG.includes(plain(text))) return 0;
    return text === "" || ["nan", "none", "null"].includes(text.toLowerCase()) ? null : Number(text);
  }

  // Cases: a model on a benchmark, its levels in order, and the mean share right of each question at each level.
  function read(text, asked = []) {
    const [head = [], ...rows] = fields(text), names = head.map(plain), at = {}, warnings = [];
    for (const [role, spellings] of Object.entries(SPELLINGS)) {
      const found = spellings.split(" ").find((name) => names.includes(name));
      if (found) at[role] = names.indexOf(found);
    }
    const missing = ["question", "level", "correct"].filter((role) => !(role in at));
    if (missing.length) throw new Error(`No column for ${missing.join(", ")}; the columns are: ${head.join(", ") || "none"}.`);
    const cases = new Map(), wrong = new Set();
    let dropped = 0;
    for (const row of rows) {
      const value = (role) => (role in at ? row[at[role]] || "" : "");
      const right = share(value("correct"));
      if (Number.isNaN(right)) wrong.add(value("correct"));
      if (right === null || value("question") === "") { dropped++; continue; }
      const key = JSON.stringify([value("model"), value("benchmark")]), level = value("level") || "none";
      if (!cases.has(key)) cases.set(key, new Map());
      if (!cases.get(key).has(level)) cases.get(key).set(level, { orders: new Set(), answers: new Map() });
      const { orders, answers } = cases.get(key).get(level);
      if (value("order") !== "") orders.add(Number(value("order")));
      if (!answers.has(value("question"))) answers.set(value("question"), []);
      answers.get(value("question")).push(right);
    }
    if (wrong.size) throw new Error(`Grades must be 0 and 1, true and false, shares in [0, 1] or words such as right and wrong, not ${[...wrong].slice(0, 4).join(", ")}.`);
    if (!cases.size) throw new Error("There is no row with a question and a grade.");
    if (dropped) warnings.push(`${dropped} ${dropped === 1 ? "row" : "rows"} without a question or a grade left out.`);
    const made = [];
    for (const [key, levels] of cases) {
      const [model, benchmark] = JSON.parse(key), where = [model, benchmark].filter(Boolean).join(" on ") || "the log";
      for (const [level, { answers }] of levels) {
        const bad = [...answers.values()].flat().filter((v) => v < 0 || v > 1);
        if (bad.length) warnings.push(`${level} of ${where} holds ${bad[0]}, which is no share (per cent?): left out.`);
        else if (answers.size < 2) warnings.push(`${level} of ${where} holds a single question: left out.`);
        else continue;
        levels.delete(level);
      }
      if (levels.size < 2) { warnings.push(`${where} has a single level: nothing to compare.`); continue; }
      const order = ordered(levels, asked);
      if (!order) { warnings.push(`The order of ${[...levels.keys()].join(", ")} cannot be guessed: write it into the field, from least thinking to most.`); continue; }
      const means = order.map((level) => new Map([...levels.get(level).answers].map(([q, all]) => [q, all.reduce((a, b) => a + b, 0) / all.length])));
      const shared = [...means[0].keys()].filter((q) => means.every((m) => m.has(q)));
      if (shared.length < 2) warnings.push(`${where}: fewer than two questions are asked at all levels.`);
      else made.push({ model, benchmark, levels: order, means });
    }
    return { cases: made, warnings };
  }

  // Levels from least thinking to most: as asked for, by the log's column, or by their names; null if that cannot be told.
  function ordered(levels, asked) {
    const names = [...levels.keys()];
    if (names.every((name) => asked.includes(name))) return names.sort((a, b) => asked.indexOf(a) - asked.indexOf(b));
    const orders = new Map([...levels].map(([name, { orders: found }]) => [name, [...found]]));
    if ([...orders.values()].every((found) => found.length === 1) && new Set([...orders.values()].map((f) => f[0])).size === names.length) {
      return names.sort((a, b) => orders.get(a)[0] - orders.get(b)[0]);
    }
    const ranks = new Map(names.map((name) => [name, rank(name)]));
    const stems = new Set([...ranks.values()].map(([stem]) => stem).filter((stem) => stem !== "off"));
    const distinct = new Set([...ranks.values()].map(String)).size === names.length;
    return stems.has("?") || stems.size > 1 || !distinct ? null : names.sort((a, b) => ranks.get(a)[1] - ranks.get(b)[1]);
  }

  function rank(name) {
    const text = plain(name), words = text.match(/[a-z]+/g) || [];
    if (name.startsWith("-")) return ["?", 0]; // −1 often stands for a budget that the model chooses
    if (words.some((w) => OFF.includes(w)) || text.includes("no_think") || text === "0" || text === "no") return ["off", -Infinity];
    const word = words.find((w) => w in WORDS);
    if (word) return ["word", WORDS[word]];
    const numbers = [...text.matchAll(/(\d+(?:\.\d+)?)([km]?)(?![a-z])/g)];
    if (numbers.length > 1) return ["?", 0];
    if (numbers.length) return ["number " + text.replace(/[\d._]+[km]?(?![a-z])/g, ""), Number(numbers[0][1]) * { "": 1, k: 1e3, m: 1e6 }[numbers[0][2]]];
    return words.some((w) => ON.includes(w)) ? ["on", 0] : ["?", 0];
  }

  // --- Judging.

  // Where the normal law leaves `tail` above: by bisection of its series.
  function normalTail(tail) {
    const above = (x) => {
      let term = x, sum = x;
      for (let n = 3; Math.abs(term) > 1e-17 * Math.abs(sum); n += 2) sum += term *= (x * x) / n;
      return 0.5 - (sum * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
    };
    return bisect((x) => above(x) - tail, 1e-9, 7.5);
  }

  function bisect(f, low, high) {
    const sign = Math.sign(f(low));
    for (let i = 0; i < 80; i++) {
      const middle = (low + high) / 2;
      if (Math.sign(f(middle)) === sign) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  }

  // Tango's interval for a difference of shares of the same questions: every Δ that the score test does not reject.
  function interval(b, c, n, confidence) {
    const z = normalTail((1 - confidence) / 2), middle = (b - c) / n;
    const score = (delta) => {
      const linear = (2 * n - b + c) * delta - b - c;
      const q = (Math.sqrt(Math.max(linear * linear + 8 * n * c * delta * (1 - delta), 0)) - linear) / (4 * n);
      const off = b - c - n * delta;
      return off - (off < 0 ? -z : z) * Math.sqrt(Math.max(n * (2 * q + delta * (1 - delta)), 0));
    };
    const limit = (end) => {
      const near = middle + Math.sign(end - middle) * 1e-9;
      return Math.abs(middle - end) < 1e-9 || score(near) * score(end) > 0 ? end : bisect(score, near, end);
    };
    return [limit(-1), limit(1)];
  }

  // Chance of a sum as far from 0 if every change could as well have had the other sign; McNemar's exact test for single answers.
  // On a lattice the law of Σ ± s_i is the Fourier transform of ∏ cos(s_i t); the part within ±s sums up in closed form.
  function pvalue(changes) {
    const x = changes.filter((v) => v !== 0);
    let scale = 1;
    while (scale < 240 && !x.every((v) => Math.abs(v * scale - Math.round(v * scale)) < 1e-6)) scale++;
    const sizes = x.map((v) => Math.round(v * scale)), counts = new Map();
    for (const s of sizes) counts.set(Math.abs(s), (counts.get(Math.abs(s)) || 0) + 1);
    const reach = sizes.reduce((sum, s) => sum + Math.abs(s), 0), far = Math.abs(sizes.reduce((sum, s) => sum + s, 0)), N = 2 * reach + 1;
    if (far === 0) return 1;
    let within = 0;
    for (let j = 0; j < N; j++) {
      let wave = 1;
      for (const [s, count] of counts) wave *= Math.pow(Math.cos((2 * Math.PI * ((j * s) % N)) / N), count);
      within += (wave * (j ? Math.sin((Math.PI * ((j * (2 * far - 1)) % (2 * N))) / N) / Math.sin((Math.PI * j) / N) : 2 * far - 1)) / N;
    }
    return Math.min(1, Math.max(1 - within, Math.pow(2, -Math.min(x.length, 60))));
  }

  function holm(values) {
    const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]), adjusted = [];
    let least = 0;
    order.forEach((index, place) => (adjusted[index] = least = Math.max(least, Math.min(1, (values.length - place) * values[index]))));
    return adjusted;
  }

  // Neighbouring levels, and the first against the last; outcomes and intervals hold for all of them together.
  function compare(text, asked = [], confidence = 0.95) {
    const { cases, warnings } = read(text, asked), pairs = [];
    for (const { model, benchmark, levels, means } of cases) {
      const steps = levels.slice(1).map((_, i) => [i, i + 1]);
      for (const [i, j] of levels.length > 2 ? [...steps, [0, levels.length - 1]] : steps) {
        const shared = [...means[i].keys()].filter((q) => means[j].has(q));
        const changes = shared.map((q) => Number((means[j].get(q) - means[i].get(q)).toFixed(9)));
        const mean = (map) => shared.reduce((sum, q) => sum + map.get(q), 0) / shared.length;
        if (shared.length > 1) pairs.push({ model, benchmark, from: levels[i], to: levels[j], changes, right_from: mean(means[i]), right_to: mean(means[j]) });
      }
    }
    const adjusted = holm(pairs.map((pair) => pvalue(pair.changes))), tail = (1 - confidence) / Math.max(pairs.length, 1);
    const comparisons = pairs.map(({ changes, ...pair }, index) => {
      const n = changes.length, sum = (f) => changes.reduce((total, v) => total + f(v), 0);
      const up = sum((v) => Math.max(v, 0)), down = sum((v) => Math.max(-v, 0)), square = sum((v) => v * v);
      const size = up + down ? square / (up + down) : 1; // the typical size of a change; 1 for single answers
      let [low, high] = interval(up / size, down / size, n, 1 - tail).map((end) => end * size);
      const outcome = adjusted[index] > 1 - confidence ? "undecided" : up > down ? "helps" : "hurts";
      if (outcome === "undecided") [low, high] = [Math.min(low, 0), Math.max(high, 0)]; // the exact test is the stricter one
      else if (outcome === "helps") low = Math.max(low, 0);
      else high = Math.min(high, 0);
      const difference = (up - down) / n, spread = normalTail(tail / 2) * Math.sqrt(square / n) + normalTail(0.2) * Math.sqrt(Math.max(square / n - difference ** 2, 0));
      const needed = outcome === "undecided" && difference ? Math.ceil((spread / difference) ** 2) : null;
      return { ...pair, questions: n, gained: changes.filter((v) => v > 0).length, lost: changes.filter((v) => v < 0).length, low, high, pvalue: adjusted[index], outcome, needed };
    });
    return { comparisons, warnings };
  }

  // A made-up log: each question has a level from which on it is right, and a few are lost again.
  function example(gain, loss, questions = 120) {
    const random = tsl.random(5), lines = ["question,level,correct"];
    for (let q = 1; q <= questions; q++) {
      let right = random() < 0.5;
      for (const level of ["low", "medium", "high"]) {
        lines.push(`q${q},${level},${Number(right)}`);
        right = right ? random() >= loss : random() < gain;
      }
    }
    return lines.join("\n");
  }

  tsl.log = { read, compare, interval, pvalue, holm, example };

  tsl.start("log", (place, box) => {
    const id = "tsl-exp-log";
    tsl.element("label", { for: id }, place, "Your log: paste or drop a table with the columns question, level and correct. It is read on this page and goes nowhere.");
    const area = tsl.element("textarea", { id, rows: 8, spellcheck: "false" }, place);
    const form = tsl.element("div", { class: "tsl-exp-controls" }, place);
    const file = tsl.element("input", { type: "file", accept: ".csv,.tsv,.txt", id: `${id}-file` }, tsl.element("label", { for: `${id}-file` }, form, "or choose a file "));
    const order = tsl.element("input", { type: "text", id: `${id}-order` }, tsl.element("label", { for: `${id}-order` }, form, "levels, least thinking first, if their names do not tell "));
    const choose = (text) => () => { area.value = text; draw(); };
    tsl.buttons(place, "Try, made up:", [
      ["it helps", choose(example(0.35, 0.05))],
      ["it hurts", choose(example(0.03, 0.3))],
      ["too few questions to tell", choose(example(0.3, 0.15, 25))],
      ["clear", choose("")],
    ]);
    const verdict = tsl.verdict(place), holder = tsl.wide(place, "Comparisons of levels");
    const notes = tsl.element("ul", { class: "tsl-exp-note" }, place);
    const load = (chosen) => chosen && chosen.text().then((text) => choose(text)());
    file.addEventListener("change", () => load(file.files[0]));
    for (const input of [area, order]) input.addEventListener("input", draw);
    for (const kind of ["dragover", "dragleave", "drop"]) {
      area.addEventListener(kind, (event) => {
        area.classList.toggle("tsl-exp-drop", kind === "dragover");
        if (kind === "drop" && !event.dataTransfer.files.length) return; // a text that is dropped goes into the field by itself
        if (kind !== "dragleave") event.preventDefault();
        if (kind === "drop") load(event.dataTransfer.files[0]);
      });
    }

    function draw() {
      holder.replaceChildren();
      notes.replaceChildren();
      if (!area.value.trim()) {
        verdict.textContent = "Nothing to read yet.";
        return;
      }
      let found;
      try {
        found = compare(area.value, order.value.split(",").map((name) => name.trim()).filter(Boolean));
      } catch (problem) {
        verdict.textContent = problem.message;
        return;
      }
      const { comparisons, warnings } = found, percent = (v) => `${v >= 0 ? "+" : "−"}${Math.abs(100 * v).toFixed(1)} %`;
      for (const text of warnings) tsl.element("li", {}, notes, text);
      const count = (outcome) => comparisons.filter((c) => c.outcome === outcome).length;
      verdict.textContent = comparisons.length
        ? `Thinking longer helps in ${count("helps")}, hurts in ${count("hurts")} of ${comparisons.length} comparisons; ${count("undecided")} undecided. With 95 % probability no “helps” or “hurts” is wrong, and all intervals hold together.`
        : "There is nothing to compare.";
      if (!comparisons.length) return;
      const table = tsl.element("table", { class: "tsl-claim-table" }, holder), many = comparisons.some((c) => c.model || c.benchmark);
      const head = tsl.element("tr", {}, tsl.element("thead", {}, table)), body = tsl.element("tbody", {}, table);
      for (const name of [...(many ? ["Log"] : []), "Levels", "Difference, interval", "Outcome", "Gained", "Lost", "Right"]) tsl.element("th", { scope: "col" }, head, name);
      for (const c of comparisons) {
        const row = tsl.element("tr", {}, body), needed = c.needed ? `: about ${c.needed} questions would decide` : "";
        const cells = [`${c.from} → ${c.to}`, `${percent(c.right_to - c.right_from)} (${percent(c.low)} to ${percent(c.high)})`, c.outcome + needed,
          c.gained, c.lost, `${(100 * c.right_from).toFixed(1)} → ${(100 * c.right_to).toFixed(1)} % of ${c.questions}`];
        for (const text of [...(many ? [[c.model, c.benchmark].filter(Boolean).join(" on ")] : []), ...cells]) tsl.element("td", {}, row, text);
      }
      box.dataset.outcomes = comparisons.map((c) => c.outcome).join(" ");
    }
    choose(example(0.35, 0.05))();
  });
})();
