// What every page has: elements and the theme.

const known = x => typeof x === "number" && Number.isFinite(x);

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {}))
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  node.append(...children.filter(child => child !== null && child !== undefined));
  return node;
}

// Light, dark, or as the system is; redraw is called when it changes.
function theme(redraw) {
  const button = document.getElementById("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("vkmoe-theme"); } catch { /* a page opened from a file may have no storage */ }
  const apply = () => {
    const dark = chosen ? chosen === "dark" : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", `switch to ${dark ? "light" : "dark"} colours`);
    redraw();
  };
  button.addEventListener("click", () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("vkmoe-theme", chosen); } catch { /* as above */ }
    apply();
  });
  system.addEventListener("change", apply);
  apply();
}
