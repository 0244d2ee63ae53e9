"use strict";
/* Results of the search are prose: paragraphs of the book from prose.js (book/_ext/finding.py), without code, with mathematics as signs.
   They come with the page, so that results show text even where the book was opened from a file and a browser lets nothing be fetched. */
if (window.tslProse) {
  const root = document.documentElement.dataset.content_root || "./";
  window.fetch = address => { // Sphinx fetches each page that it found; hand it the page's name instead
    const name = String(address).replace(root, "").replace(/\.html.*$/, "");
    return Promise.resolve({ text: () => Promise.resolve(name) });
  };
  Search.makeSearchSummary = (name, keywords, anchor) => {
    const all = window.tslProse[name] || [], words = [...keywords];
    const hits = text => words.filter(word => text.toLowerCase().includes(word)).length;
    const here = anchor ? all.filter(([ids]) => ids.split(" ").includes(anchor.slice(1))) : [];
    const order = list => [...list].sort((a, b) => hits(b[1]) - hits(a[1]))[0]; // a stable sort: the first of the best
    const best = order(here) || order(all);
    if (!best) return null;
    const text = best[1], at = Math.max(0, ...words.map(word => text.toLowerCase().indexOf(word)));
    const start = at < 160 ? 0 : text.lastIndexOf(" ", at - 100) + 1;
    const end = text.length <= start + 260 ? text.length : text.lastIndexOf(" ", start + 260);
    const summary = document.createElement("p");
    summary.className = "context";
    summary.textContent = (start ? "… " : "") + text.slice(start, end) + (end < text.length ? " …" : "");
    return summary;
  };
  // Where several pages name a word, the chapter that treats it comes before the glossary that explains it; the index comes last.
  const later = { "book/glossary": 1, "book/subject_index": 200 };
  Scorer.score = ([name, , , , score]) => score - (later[name] || 0);
}
