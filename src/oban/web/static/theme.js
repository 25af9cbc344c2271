// Before anything is painted: what its reader has chosen last.
try {
  const chosen = localStorage.getItem("oban-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* a browser that keeps nothing */ }
