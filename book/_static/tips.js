"use strict";
/* What a link leads to, shown beside it: for a mouse that rests on it and for the keyboard that reaches it.
   Its text stands in the page (book/_ext/finding.py), so that it works from a file. A tip stays while the mouse is on it, and Escape hides it. */
document.addEventListener("DOMContentLoaded", () => {
  const data = document.getElementById("tsl-tips");
  if (!data) return;
  const texts = JSON.parse(data.textContent);
  const tip = document.createElement("div");
  tip.id = "tsl-tip";
  tip.className = "tsl-tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);
  let owner = null, timer = 0;

  const place = () => {
    const box = owner.getBoundingClientRect(), margin = 12;
    const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - margin);
    const below = box.bottom + tip.offsetHeight + 8 < window.innerHeight || box.top < tip.offsetHeight + 8;
    tip.style.left = `${Math.max(margin, left) + window.scrollX}px`;
    tip.style.top = `${(below ? box.bottom + 6 : box.top - tip.offsetHeight - 6) + window.scrollY}px`;
  };
  const hide = () => {
    clearTimeout(timer);
    if (owner) owner.removeAttribute("aria-describedby");
    owner = null;
    tip.hidden = true;
  };
  const show = link => {
    hide();
    owner = link;
    tip.innerHTML = texts[link.getAttribute("href")];
    tip.hidden = false;
    link.setAttribute("aria-describedby", tip.id);
    place();
    const MathJax = window.MathJax;
    if (tip.querySelector(".math") && MathJax && MathJax.typesetPromise)
      MathJax.typesetPromise([tip]).then(() => owner === link && place());
  };
  const later = (work, wait) => { clearTimeout(timer); timer = setTimeout(work, wait); };

  const known = link => Object.hasOwn(texts, link.getAttribute("href"));
  document.querySelectorAll("article.bd-article a[href]").forEach(link => {
    if (!known(link)) return;
    if (link.classList.contains("tsl-symbol")) link.setAttribute("aria-label", link.title); // a formula is no name
    link.removeAttribute("title"); // the browser would show it a second time
    link.addEventListener("mouseenter", () => later(() => show(link), 250));
    link.addEventListener("mouseleave", () => later(hide, 200));
    link.addEventListener("focus", () => { if (link.matches(":focus-visible")) show(link); });
    link.addEventListener("blur", hide);
  });
  tip.addEventListener("mouseenter", () => clearTimeout(timer));
  tip.addEventListener("mouseleave", () => later(hide, 200));
  document.addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
});
