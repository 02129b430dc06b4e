// The page: its words at the top, the legend, the figures in order.

const seedsText = () => {
  const counts = [...new Set(methods.map(m => m.runs.length))];
  return counts.length === 1 ? (counts[0] === 1 ? "one seed each" : `${numeral(counts[0])} seeds each`) : `${Math.min(...counts)} to ${Math.max(...counts)} seeds each`;
};

function heading() {
  if (runs.length === 1) return `One run: ${methods[0].name}, seed ${runs[0].seed}`;
  if (methods.length === 1) return `${methods[0].name}, ${plural(runs.length, "seed")}`;
  const balances = routed.length === methods.length;
  const n = numeral(routed.length), text = `${n} ${routed.length === 1 ? "way" : "ways"} to balance experts${balances ? "" : " and a dense model"}, ${seedsText()}`;
  return text[0].toUpperCase() + text.slice(1);
}

function lede() {
  const devices = [...new Set(runs.map(r => r.device).filter(Boolean).map(d => d.split(" (")[0]))], p = data.paper;
  const where = devices.length === 0 ? "" : devices.length <= 2 ? ` on ${listed(devices)}` : ` on ${devices.length} devices`;
  const sizes = kind => range(extent(runs.filter(r => methods[r.method].dense === kind).map(r => r.parameters)), count);
  const size = `${sizes(!routed.length)} parameters${routed.length && routed.length < methods.length ? ` (the dense model: ${sizes(true)})` : ""}`;
  return `${methods.length > 1 ? `${listed(methods.map(m => m.name))} are compared` : runs.length > 1 ? "These runs have" : "This run has"}${methods.length > 1 ? " at" : ""} ${size} and ` +
    `${runs.length > 1 ? "up to " : ""}${count(data.scale.tokens)} tokens${where}. The paper (arXiv ${p.arxiv}) trained ${range(p.parameters, x => count(x))} parameters on ${range(p.tokens, x => count(x))} tokens: ` +
    `${runs.length > 1 ? "these are" : "this is"} ${scaleText()}, and ${runs.length > 1 ? "show what the methods do" : "shows what the method does"} at this scale, not at theirs.`;
}

function notice() {
  const going = runs.filter(r => !r.finished);
  if (!going.length) return null;
  const some = going.slice(0, 6).map(r => `${r.name} (step ${r.step} of ${r.steps})`);
  const mixed = methods.some(m => m.finished && m.runs.length > m.counted.length);
  return `Not finished: ${listed(going.length > 6 ? [...some, `${going.length - 6} more`] : some)}. ` +
    (mixed ? "Means are over the finished runs of a method" : "Figures of these are as far as they got") + (mixed && methods.some(m => !m.finished) ? "; where none is, over all, as far as they got." : ".");
}

function brief() {
  const simbal = methods.find(m => m.base === "simbal"), lbl = methods.find(m => m.base === "lbl");
  const item = (label, value, note) => el("div", {}, el("dt", {}, label), el("dd", {}, value, el("small", {}, note)));
  if (!simbal || !lbl || baseline !== lbl) {
    const one = methods[0].summary;
    return methods.length > 1 ? [] : [known(one.loss.mean) ? item("validation loss", plain(one.loss), "nats per token") : null,
      known(one.perplexity.mean) ? item("perplexity", plain(one.perplexity), "exp of the loss") : null,
      known(one.load_max.mean) ? item("busiest expert", `${fixed(one.load_max.mean, 3)}×`, "an even share, mean over layers") : null,
      known(one.pes_min.mean) ? item("least PES of the layers", plain(one.pes_min), "similarity of the experts' outputs") : null].filter(Boolean);
  }
  const items = [], t = simbal.tokens_to_baseline, a = simbal.summary, b = lbl.summary;
  if (known(b.loss.mean))
    items.push(t.n === t.of ? item("tokens to LBL's final loss, SimBal", t.saving >= 0 ? `${percent(t.saving)} fewer` : `${percent(-t.saving)} more`, `paper: ${percent(data.paper.saving)} fewer`)
      : item("LBL's final loss reached, SimBal", `${t.n} of ${plural(t.of, "seed")}`, `paper: with ${percent(data.paper.saving)} fewer tokens`));
  if (known(a.perplexity.mean) && known(b.perplexity.mean))
    items.push(item("perplexity, SimBal", plain(a.perplexity), `LBL ${plain(b.perplexity)}`));
  if (known(a.pes_min.mean) && known(b.pes_min.mean))
    items.push(item("least PES of the layers, SimBal", plain(a.pes_min), `LBL ${plain(b.pes_min)}`));
  if (known(a.load_max.mean) && known(b.load_max.mean))
    items.push(item("busiest expert, SimBal", `${fixed(a.load_max.mean, 3)}×`, `an even share; LBL ${fixed(b.load_max.mean, 3)}×`));
  return items;
}

function legend() {
  if (methods.length < 2) return;
  const bar = document.getElementById("legend");
  const focus = index => document.querySelectorAll("[data-m]").forEach(n => n.classList.toggle("faded", index !== null && Number(n.dataset.m) !== index));
  for (const m of methods) {
    const button = el("button", { type: "button", "aria-pressed": "true" },
      svg("svg", { width: 26, height: 10, "aria-hidden": "true" }, svg("path", { d: "M0 5H26", stroke: m.color, "stroke-width": 2.5, "stroke-dasharray": m.dash || null })), m.name);
    button.addEventListener("click", () => {
      state.hidden.has(m.index) ? state.hidden.delete(m.index) : state.hidden.add(m.index);
      button.setAttribute("aria-pressed", String(!state.hidden.has(m.index)));
      redraw();
    });
    button.addEventListener("pointerenter", () => focus(m.index));
    button.addEventListener("pointerleave", () => focus(null));
    bar.append(button);
  }
}

const sections = [
  ["Summary", summaryTable], ["Loss", lossFigure], ["Tokens to the baseline’s loss", tokensFigure], ["Load of the experts over time", loadFigure],
  ["Similarity of the experts (PES)", pesFigure], ["Routing over time", timeFigure], ["Distance of the router from orthogonal", gramFigure],
  ["Gate weights", gateFigure], ["Pruning experts", pruneFigure], ["Without the best experts", dropFigure], ["Beside the paper", paperTable],
];

theme(redraw);
document.title = `${heading()} – vkmoe report`;
document.getElementById("title").textContent = heading();
document.getElementById("lede").textContent = lede();
const warning = notice();
if (warning) { const box = document.getElementById("notice"); box.textContent = warning; box.hidden = false; }
document.getElementById("brief").append(...brief());
legend();
const main = document.getElementById("main"), absent = [];
main.replaceChildren();
for (const [name, make] of sections) {
  const body = make();
  if (body) main.append(el("section", {}, el("h2", {}, name), body));
  else if (!(methods.length < 2 && make === tokensFigure)) absent.push(name.toLowerCase());
}
main.append(el("h2", {}, "Runs"), el("details", { open: runs.length <= 6 }, el("summary", {}, plural(runs.length, "run")), runTable()),
  el("details", {}, el("summary", {}, "Configuration (what differs is dark)"), configTable()));
document.getElementById("footer").append(
  absent.length ? el("p", { class: "note" }, `Not measured in these runs: ${absent.join("; ")}.`) : "",
  el("p", { class: "note" }, `Made by vkmoe ${data.version}; data ${data.data}. All numbers of this page are in report.json beside it. SimBal: Omi, Sen, Farhadi, arXiv ${data.paper.arxiv}.`));
