// On paper a page is light and its folds are open, whatever they are on the screen; a formula wider than its column is
// set smaller until it fits, down to three fifths.
(function () {
  "use strict";
  const root = document.documentElement;
  let theme = null, closed = [];
  function fit() {
    for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
      formula.dataset.size = formula.dataset.size || parseFloat(formula.style.fontSize) || 100;
      formula.style.fontSize = formula.dataset.size + "%";
      const share = formula.clientWidth / formula.scrollWidth;
      if (share < 1) formula.style.fontSize = Math.max(0.6, 0.99 * share) * formula.dataset.size + "%";
    }
  }
  window.addEventListener("load", () => {
    const ready = window.MathJax && window.MathJax.startup && window.MathJax.startup.promise;
    if (ready) ready.then(fit);
  });
  window.addEventListener("resize", fit);

  window.addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    closed = [...document.querySelectorAll("details:not([open]):not(.tsl-fold)")];
    closed.forEach((fold) => { fold.open = true; });
    document.querySelectorAll("img[loading=lazy]").forEach((image) => { image.loading = "eager"; });
  });
  window.addEventListener("afterprint", () => {
    if (theme) root.dataset.theme = theme;
    closed.forEach((fold) => { fold.open = false; });
  });
})();
