// Tables: the summary, the paper's figures beside ours, the runs and their configuration.

const swatch = m => el("span", { class: "swatch", style: `background:${m.color}` });

function table(head, rows, kind) {
  return el("div", { class: "table", tabindex: 0 }, el("table", { class: kind },
    el("thead", {}, el("tr", {}, ...head.map(h => el("th", { scope: "col", class: ["method", "device"].includes(h) ? "text" : null }, h)))), el("tbody", {}, ...rows)));
}

// Speeds that runs logged at different hours are no ground for a ratio.
const relativeTimes = data.step_time === "interleaved" && methods.some(m => known(m.step_relative));
const tokensStat = m => m === baseline ? { mean: data.baseline.tokens, sd: null, n: 1 } : m.tokens_to_baseline;

// better: -1 where less is better, 1 where more is, 0 where neither is.
const columns = [
  { head: "validation loss", better: -1, of: m => m.summary.loss },
  { head: "perplexity", better: -1, of: m => m.summary.perplexity },
  { head: "tokens to baseline", better: -1, of: tokensStat, text: m => {
    const t = m.tokens_to_baseline;
    if (m === baseline) return [count(data.baseline.tokens), "baseline"];
    if (!t.n) return ["–", "not reached"];
    return [count(t.mean), t.n < t.of ? `${t.n} of ${plural(t.of, "seed")}` : `${minus((-100 * t.saving).toFixed(0))}%`];
  }, skip: () => methods.length < 2 },
  { head: "min PES", better: -1, of: m => m.summary.pes_min },
  { head: "SEU", better: 1, of: m => m.summary.seu },
  { head: "entropy", better: 0, of: m => m.summary.entropy },
  { head: "top-K entropy", better: 0, of: m => m.summary.entropy_topk },
  { head: "Gram distance", better: -1, of: m => m.summary.gram_mean_square },
  { head: "experts used", better: 1, of: m => m.summary.used },
  { head: "dead experts", better: -1, of: m => m.summary.dead },
  { head: "load max/mean", better: -1, of: m => m.summary.load_max },
  { head: "load CV", better: -1, of: m => m.summary.load_cv },
  { head: "step time", better: 0, of: m => ({ mean: relativeTimes ? m.step_relative : m.step_seconds, sd: null }),
    text: m => [relativeTimes ? (known(m.step_relative) ? m.step_relative.toFixed(3) + "×" : "–") : known(m.step_seconds) ? fixed(m.step_seconds, 3) + " s" : "–", ""] },
];

// The best mean, and those nearer to it than the larger of the two deviations. None is marked where all are equal. A method
// that is not finished, or of which only some seeds have the number, is not in the race.
function best(column) {
  const candidates = methods.filter(m => known((column.of(m) || {}).mean) && (m.finished || !methods.some(o => o.finished)) &&
    !(column.of(m).n < column.of(m).of));
  if (!column.better || candidates.length < 2) return new Set();
  const value = m => column.better * column.of(m).mean, top = candidates.reduce((a, b) => value(b) > value(a) ? b : a);
  const near = candidates.filter(m => value(top) - value(m) <= Math.max(column.of(top).sd || 0, column.of(m).sd || 0));
  return new Set(near.length === candidates.length ? [] : near);
}

const inTwo = texts => texts && texts.slice(0, 2).map(text => text + (texts[2] || ""));

function summaryTable() {
  const used = columns.filter(c => !(c.skip && c.skip()) && methods.some(m => known((c.of(m) || {}).mean)));
  if (!used.length) return null;
  const marks = used.map(best), decimals = used.map(c => commonDecimals(methods.map(c.of)));
  const rows = methods.map(m => el("tr", { "data-m": m.index }, el("th", { scope: "row" }, swatch(m), m.name,
    el("small", {}, m.finished ? "" : " (going on)")), ...used.map((c, i) => {
    const texts = c.text ? c.text(m) : inTwo(parts(c.of(m), decimals[i]));
    return el("td", { class: marks[i].has(m) ? "best" : null }, ...(texts ? [texts[0], texts[1] ? el("small", {}, texts[1]) : null] : ["–"]));
  })));
  const timing = data.step_time === "interleaved" ? "steps of all methods measured by turns, so that a busy machine slows all alike" : "the median that the runs logged, whatever else the machine was doing: not for comparing methods";
  const partly = methods.some(m => m !== baseline && m.tokens_to_baseline.n > 0 && m.tokens_to_baseline.n < m.tokens_to_baseline.of);
  return el("figure", {}, methods.length > 1 ? el("figcaption", {}, "Bold: the best mean, and every one that is nearer to it than the larger of the two deviations, so no worse as far as these seeds can tell." + (methods.some(m => m.counted.length < 2) ? " One seed has no deviation: its differences may be chance." : "")) : "",
    table(["", ...used.map(c => c.head)], rows, "summary"),
    el("p", { class: "note" }, `${methods.some(m => m.counted.length > 1) ? "± is the sample standard deviation over seeds. " : ""}PES: the least of the layers; entropies in nats; dead experts: the sum over layers; all else: the mean over layers. ${partly && used.some(c => c.head === "tokens to baseline") ? "Tokens to baseline of a method of which not all seeds got there: the mean of those that did, so not to be held against the others. " : ""}Step time${relativeTimes ? ", relative to no balance" : ""}: ${timing}.`));
}

const paperNames = { perplexity: "perplexity", pes_min: "min PES", seu: "SEU", entropy: "router entropy", gram_mean_square: "Gram distance", tokens_to_baseline: "tokens to LBL's final loss" };

function paperTable() {
  const find = base => methods.find(m => m.base === base);
  const simbal = find("simbal"), lbl = find("lbl");
  if (!simbal && !lbl) return null;
  const show = (key, value, sd) => !known(value) ? "–" : key === "tokens_to_baseline" ? count(value) : known(sd) ? plain({ mean: value, sd }) : value < 1e-4 ? fixed(value, 2) : String(value);
  const own = (key, stat) => key === "tokens_to_baseline" ? count(stat.mean) : plain(stat);
  const ratio = (a, b) => known(a) && known(b) && b !== 0 ? (r => r < .01 ? fixed(r, 2) : r.toFixed(r < .1 ? 3 : 2))(a / b) : "–";
  const ours = (m, key) => !m ? {} : key === "tokens_to_baseline" ? (baseline === lbl ? tokensStat(m) : {}) : m.summary[key] || {};
  const rows = data.paper.rows.map(r => {
    const a = ours(lbl, r.metric), b = ours(simbal, r.metric);
    return el("tr", {}, el("th", { scope: "row" }, paperNames[r.metric], el("small", {}, ` ${r.model}`)), el("td", {}, show(r.metric, r.lbl, r.lbl_sd)),
      el("td", {}, show(r.metric, r.simbal, r.simbal_sd)), el("td", {}, ratio(r.simbal, r.lbl)), el("td", {}, own(r.metric, a)),
      el("td", {}, own(r.metric, b)), el("td", {}, ratio(b.mean, a.mean)));
  });
  return figure(`The levels are not to be compared: other text, other tokens and ${scaleText()}. What can be held against the paper is the direction and the ratio of SimBal to LBL.`,
    table(["", "paper, LBL", "paper, SimBal", "ratio", "here, LBL", "here, SimBal", "ratio"], rows));
}

function scaleText() {
  const p = data.paper, s = data.scale, most = s.parameters[1];
  const smaller = p.parameters[0] / most, fewer = p.tokens[0] / s.tokens;
  return `${smaller >= 1.5 ? `${runs.length > 1 ? "models" : "a model"} ${many(smaller)} times smaller` : "about the size"}, on ${!known(fewer) ? "no" : fewer >= 1.5 ? `${many(fewer)} times fewer` : "about as many"} tokens${known(fewer) ? "" : " yet"}, than the paper's smallest`;
}

const setting = value => value === null ? "–" : typeof value === "boolean" ? (value ? "on" : "off") : typeof value === "object" ? JSON.stringify(value)
  : typeof value === "number" ? (Number.isInteger(value) ? String(value) : fixed(value, 3)) : String(value);

function runTable() {
  const rows = runs.map(r => el("tr", { "data-m": r.method }, el("th", { scope: "row" }, swatch(methods[r.method]), r.name), el("td", { class: "text" }, methods[r.method].name),
    el("td", {}, r.seed), el("td", {}, `${r.step} / ${r.steps}`), el("td", {}, count(r.tokens)), el("td", {}, count(r.parameters)), el("td", {}, fixed(r.loss, 5)), el("td", {}, fixed(r.perplexity, 4)),
    el("td", {}, count(r.tokens_per_second)), el("td", {}, String(r.skipped)), el("td", { class: "text" }, r.device || "–")));
  return table(["run", "method", "seed", "steps", "tokens", "parameters", "validation loss", "perplexity", "tokens/s", "skipped steps", "device"], rows);
}

function configTable() {
  const objects = methods.map(m => { const r = runs[m.runs[0]]; return { ...r.model, ...r.train }; });
  const keys = [...new Set(objects.flatMap(Object.keys))].filter(k => k !== "seed");
  const rows = keys.map(key => {
    const values = objects.map(o => key in o ? setting(o[key]) : "–"), same = new Set(values).size === 1;
    return el("tr", {}, el("th", { scope: "row" }, key.replaceAll("_", " ")), ...values.map(v => el("td", { class: same ? "worse" : null }, v)));
  });
  return table(["", ...methods.map(m => m.name)], rows);
}
