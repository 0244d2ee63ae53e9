// On paper a page is light and its folds are open, whatever they are on the screen.
(function () {
  "use strict";
  const root = document.documentElement;
  let theme = null, closed = [];
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
