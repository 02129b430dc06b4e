// Results of several devices side by side. What comes from the data is only ever set as text, never as markup.

const runs = JSON.parse(document.getElementById("data").textContent);
runs.forEach((run, i) => {
  run.label = String.fromCharCode(65 + i);
  run.color = `var(--c${i % 8})`;
  run.all = [...run.ceilings.map(r => ({ ...r, group: "ceilings" })), ...run.results];
});

const titles = { ceilings: "Ceilings", ops: "Operations", layer: "A layer of experts", steps: "Training steps" };
const notes = {
  ceilings: "What each device can do at best: multiply-adds in registers, copying (read and written bytes), empty dispatches.",
  ops: "Products and attention in operations per second, the others in bytes read and written. The share is that of the device's own ceiling.",
  layer: "Shape: tokens T, width d, hidden width n, experts E, active K. 6 T n d K operations forward, twice that backward; the time holds norm, router, gate, sorting and combination, too. Skewed: low experts far more often. One-hot: all tokens to the same K experts.",
  steps: "Whole steps with the update, wall clock. Model operations: 6 for each matrix weight a token meets, 6 L S D for causal attention.",
};
const key = r => [r.group, r.name, r.group === "ceilings" ? "" : r.shape || "", r.unit].join("\n");
const digits = x => !known(x) ? "–" : x >= 1000 ? Math.round(x).toLocaleString("en") : String(Number(x.toPrecision(4)));
const percent = x => known(x) ? `${(100 * x).toFixed(x < 0.0995 ? 1 : 0)}%` : "";
const speed = (r, first) => r.unit === "us" ? first.median / r.median : r.median / first.median;

// Value, its quartiles as a tooltip, how it compares, and a bar: all bars of a row have one scale, longest is fastest.
function cell(r, first, most, run) {
  if (!r) return el("td", {}, "–");
  const about = [r === first ? "" : known(first?.median) ? `${speed(r, first).toFixed(2)}×` : "", percent(r.share), known(r.of_balanced) ? `${r.of_balanced.toFixed(2)} of balanced` : "",
    known(r.host_share) ? `host ${percent(r.host_share)}` : ""].filter(Boolean).join(" · ");
  const length = r.unit === "us" ? most / r.median : r.median / most;
  return el("td", { title: `quartiles ${digits(r.quartiles[0])} to ${digits(r.quartiles[1])}, ${r.repetitions} repetitions, ${r.timer}${r.note ? "; " + r.note : ""}` },
    digits(r.median), el("small", {}, about ? ` ${about}` : ""),
    el("div", { style: `height: 3px; margin-top: 3px; border-radius: 1px; background: ${run.color}; width: ${(100 * Math.min(1, length)).toFixed(1)}%` }));
}

function table(group) {
  const rows = new Map();
  for (const run of runs)
    for (const r of run.all)
      if (r.group === group && !rows.has(key(r))) rows.set(key(r), r);
  if (!rows.size) return null;
  const body = [...rows.values()].map(row => {
    const found = runs.map(run => run.all.find(r => key(r) === key(row))), values = found.filter(Boolean).map(r => r.median);
    const most = row.unit === "us" ? Math.min(...values) : Math.max(...values);
    return el("tr", {}, el("th", { scope: "row" }, row.name), el("td", { class: "text" }, group === "ceilings" ? "" : row.shape || ""), el("td", { class: "text" }, row.unit),
      ...found.map((r, i) => cell(r, found[0], most, runs[i])));
  });
  return el("section", {}, el("h2", {}, titles[group]), el("p", { class: "note" }, notes[group]),
    el("div", { class: "table" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, ""), el("th", { class: "text" }, "shape"), el("th", { class: "text" }, "unit"),
      ...runs.map(run => el("th", { scope: "col" }, el("i", { class: "swatch", style: `background: ${run.color}` }), `${run.label} ${run.device.name}`)))), el("tbody", {}, ...body))));
}

function devices() {
  const rows = runs.map(run => {
    const d = run.device;
    return el("tr", {}, el("th", { scope: "row" }, el("i", { class: "swatch", style: `background: ${run.color}` }), `${run.label} ${d.name}`), el("td", { class: "text" }, d.type), el("td", { class: "text" }, d.driver),
      el("td", {}, `${(d.memory_bytes / 2 ** 30).toFixed(1)} GiB`), el("td", {}, String(d.subgroup_size)), el("td", {}, known(run.clock_mhz) ? `${digits(run.clock_mhz)} MHz` : "–"), el("td", { class: "text" }, d.vulkan),
      el("td", { class: "text" }, run.vkmoe), el("td", { class: "text" }, run.date.slice(0, 10)));
  });
  const head = ["device", "type", "driver", "memory", "subgroup", "clock", "Vulkan", "vkmoe", "date"];
  return el("section", {}, el("h2", {}, "Devices"), el("div", { class: "table" },
    el("table", {}, el("thead", {}, el("tr", {}, ...head.map((h, i) => el("th", { class: [1, 2, 6, 7, 8].includes(i) ? "text" : null }, h)))), el("tbody", {}, ...rows))));
}

function leftOut() {
  const rows = runs.flatMap(run => run.skipped.map(r => el("tr", {}, el("th", { scope: "row" }, `${run.label} ${run.device.name}`), el("td", { class: "text" }, `${titles[r.group]}: ${r.name} ${r.shape || ""}`), el("td", { class: "text" }, r.reason))));
  return rows.length ? el("details", {}, el("summary", {}, "Left out"), el("div", { class: "table" }, el("table", {}, el("tbody", {}, ...rows)))) : null;
}

theme(() => {});
const names = runs.map(run => run.device.name), title = names.length === 1 ? names[0] : `${names.length} devices`;
document.title = `${title} – vkmoe bench`;
document.getElementById("title").textContent = title;
document.getElementById("lede").textContent = "Training small Mixtures of Experts, measured by vkmoe bench. Medians; the quartiles show when the pointer rests on a number." +
  (runs.length > 1 ? ` A number with × says how many times as fast as ${runs[0].label}.` : "") + " A percentage is the share of the device's own ceiling.";
document.getElementById("main").replaceChildren(...[devices(), ...Object.keys(titles).map(table), leftOut()].filter(Boolean));
