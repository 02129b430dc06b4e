// Figures. Each returns its contents, or null where the runs have no data for it.

const routed = methods.filter(m => !m.dense);
const baseline = methods[data.baseline.method];
const tokensText = x => `${count(x)} tokens`;
const ofSeeds = m => m.counted.map(i => runs[i]);

// A method's curve of one metric over tokens: the mean of its seeds at validations, or the log's where there are too few.
function curve(m, key) {
  const c = m.curve, mean = c[key] ? c[key].mean : [];
  if (mean.filter(known).length > 1)
    return { method: m, x: c.tokens, y: mean, sd: c[key].sd };
  const run = ofSeeds(m).find(r => r.log[key] && r.log[key].filter(known).length > 1);
  if (run) return { method: m, x: run.log.tokens, y: run.log[key] };
  return mean.some(known) ? { method: m, x: c.tokens, y: mean, sd: c[key].sd } : null;
}
const curves = (list, key) => list.map(m => curve(m, key)).filter(Boolean);

// Measured at few validations: the gaps between are no breaks of the line.
function dense(s) {
  const keep = s.x.map((_, i) => i).filter(i => known(s.y[i]));
  return { ...s, x: keep.map(i => s.x[i]), y: keep.map(i => s.y[i]), sd: s.sd && keep.map(i => s.sd[i]) };
}

const endsOf = series => series.map(s => {
  const last = s.y.map((y, i) => i).filter(i => known(s.y[i])).pop();
  return last === undefined ? null : `${s.method.name} ${fixed(s.y[last])}`;
}).filter(Boolean).join(", ");

function titled(heading, unit, node) {
  return el("div", {}, el("p", { class: "heading" }, heading, unit ? el("span", {}, ` ${unit}`) : null), node);
}

function figure(caption, ...nodes) {
  return el("figure", {}, el("figcaption", {}, caption), ...nodes);
}

function lossFigure() {
  const series = curves(methods, "loss").map(s => ({
    ...s, seeds: s.method.counted.length > 1 ? ofSeeds(s.method).map(r => ({ x: r.validation.tokens, y: r.validation.loss })) : [] }));
  if (!series.length) return null;
  const most = Math.max(...series.flatMap(s => s.x));
  const logged = series.every(s => s.sd === undefined);
  const options = { xLabel: "tokens", xFormat: short, names: true, title: tokensText,
    label: `Loss over tokens. At the end: ${endsOf(series)}.` };
  const reference = { value: data.baseline.loss, text: `final loss of ${baseline.name}`, end: false };
  const whole = titled(logged ? "Training loss" : "Validation loss", "nats per token", linePlot(series, { ...options, xLog: true, xLabel: "tokens, logarithmic" }));
  const late = titled("The second half, enlarged", "nats per token", linePlot(series, { ...options, from: most / 2,
    references: methods.length > 1 ? [reference] : [] }));
  return figure(series.some(s => s.method.counted.length > 1)
    ? "Lower is better; a gap between lines is worth trusting where it is wider than the bands (one standard deviation over seeds; thin lines are seeds)."
    : methods.length > 1 ? "Lower is better; with one seed a small gap between lines may be chance." : "Lower is better; a curve that still falls at its end would gain from more steps.",
    el("div", { class: "grid", style: "--cell:440px" }, whole, late));
}

// Horizontal bars: [{method, value, sd, dots, text, pale}], value null for a row that has only text.
function bars(rows, options) {
  return responsive(width => {
    const list = rows.filter(r => !state.hidden.has(r.method.index));
    const narrow = width < 560, left = narrow ? 0 : 150, right = narrow ? 8 : 210, row = narrow ? 50 : 38;
    const height = list.length * row + 34, reference = options.reference;
    const x = linear([0, Math.max(1e-9, reference || 0, ...list.map(r => (r.value || 0) + (r.sd || 0)), ...list.flatMap(r => r.dots || [])) * 1.02], [left, width - right]);
    const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
      "aria-label": options.label + " " + rows.map(r => `${r.method.name}: ${r.text}`).join("; ") });
    const bottom = height - 30, groups = [];
    for (const t of x.ticks(narrow ? 3 : 6))
      node.append(svg("line", { x1: x(t), x2: x(t), y1: 0, y2: bottom, stroke: "var(--grid)" }),
        svg("text", { x: x(t), y: bottom + 16, "text-anchor": t === 0 ? "start" : "middle" }, short(t)));
    list.forEach((r, i) => {
      const top = i * row + (narrow ? 20 : 9), middle = top + 10;
      const group = svg("g", { "data-m": r.method.index });
      group.append(svg("text", { class: "name", x: narrow ? 0 : left - 10, y: narrow ? top - 6 : middle + 4, "text-anchor": narrow ? "start" : "end" }, r.method.name));
      if (known(r.value)) {
        group.append(svg("rect", { x: left, y: top, width: Math.max(0, x(r.value) - left), height: 20, fill: r.method.color, "fill-opacity": r.pale ? .25 : .78, rx: 1.5 }));
        if (known(r.sd))
          group.append(svg("path", { d: `M${x(r.value - r.sd)} ${middle}H${x(r.value + r.sd)}`, stroke: "var(--ink)", "stroke-width": 1.2 }));
        for (const dot of (r.dots || []).filter(known))
          group.append(svg("circle", { cx: x(dot), cy: middle, r: 2.6, fill: "var(--paper)", stroke: "var(--ink)" }));
      }
      group.append(svg("text", narrow ? { class: "halo", x: width - right, y: top - 6, "text-anchor": "end" }
        : { x: width - right + 12, y: middle + 4 }, r.text));
      group.addEventListener("pointermove", e => showTip(e.clientX, e.clientY, options.tip, [[r.method.color, r.method.name, r.tip || r.text]]));
      group.addEventListener("pointerleave", hideTip);
      groups.push(group);
    });
    if (known(reference))
      node.append(svg("line", { x1: x(reference), x2: x(reference), y1: 0, y2: bottom, stroke: "var(--ink)", "stroke-dasharray": "2 3" }));
    node.append(...groups);
    node.append(svg("text", { x: width - right, y: bottom + 29, "text-anchor": "end" }, options.xLabel));
    return node;
  });
}

function tokensFigure() {
  if (methods.length < 2 || !known(data.baseline.loss)) return null;
  const several = methods.some(m => m.counted.length > 1);
  const rows = methods.map(m => {
    const t = m.tokens_to_baseline, own = m === baseline;
    if (own) return { method: m, value: data.baseline.tokens, dots: several ? t.runs : [], text: `${count(data.baseline.tokens)}: all of its training` };
    if (!t.n) return { method: m, value: null, text: t.of > 1 ? `not reached by ${plural(t.of, "seed")}` : "not reached" };
    if (t.n < t.of) return { method: m, value: t.mean, dots: t.runs, pale: true, text: `${t.n} of ${plural(t.of, "seed")}, at ${count(t.mean)}` };
    const sign = t.saving >= 0 ? `${percent(t.saving)} fewer` : `${percent(-t.saving)} more`;
    return { method: m, value: t.mean, sd: t.sd, dots: several ? t.runs : [], text: `${count(t.mean)}, ${sign}`,
      tip: `${count(t.mean)}${known(t.sd) ? " ± " + count(t.sd) : ""}` };
  });
  const partly = rows.some(r => r.pale);
  return figure(`Tokens until the validation loss first reaches ${baseline.name}'s final ${fixed(data.baseline.loss)}; shorter is better.${several ? ` Dots are seeds, of ${baseline.name} those that reach its mean before the end.` : ""}${partly ? " Pale: not all seeds got there, and the bar is of those that did." : ""} The paper's headline is this bar for SimBal, ${percent(data.paper.saving)} shorter than LBL's.`,
    bars(rows, { label: "Tokens to the baseline's final loss.", xLabel: "tokens", reference: data.baseline.tokens, tip: "tokens to the baseline's final loss" }));
}

// Colour of a load relative to an even share, on a scale of powers of two from a quarter to four times; black for none at all.
function loadColors() {
  const style = getComputedStyle(document.documentElement);
  const rgb = name => { const v = style.getPropertyValue(name).trim(); return [1, 3, 5].map(i => parseInt(v.slice(i, i + 2), 16)); };
  const cold = rgb("--cold"), even = rgb("--even"), warm = rgb("--warm"), dead = rgb("--dead");
  return value => {
    if (!known(value)) return even;
    if (value <= 0) return dead;
    const t = Math.max(-1, Math.min(1, Math.log2(value) / 2)), to = t < 0 ? cold : warm;
    return even.map((c, i) => Math.round(c + (to[i] - c) * Math.abs(t)));
  };
}

function heatStrip(run, layer, sorted) {
  const times = run.load.share, last = times[times.length - 1][layer], experts = last.length;
  const order = last.map((_, e) => e);
  if (sorted) order.sort((a, b) => (last[b] || 0) - (last[a] || 0) || a - b);
  const canvas = el("canvas", { width: times.length, height: experts, role: "img",
    "aria-label": `Layer ${layer} of ${run.name}: at the end the busiest expert has ${fixed(Math.max(...last), 3)} of an even share, the idlest ${fixed(Math.min(...last), 3)}.` });
  canvas.style.height = Math.max(56, Math.min(200, experts * 7)) + "px";
  const context = canvas.getContext("2d"), pixels = context.createImageData(times.length, experts), color = loadColors();
  times.forEach((layers, t) => order.forEach((e, y) => {
    const c = color(layers[layer][e]);
    pixels.data.set([c[0], c[1], c[2], 255], 4 * (y * times.length + t));
  }));
  context.putImageData(pixels, 0, 0);
  const move = event => {
    const box = canvas.getBoundingClientRect();
    const t = Math.min(times.length - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * times.length)));
    const e = order[Math.min(experts - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * experts)))];
    showTip(event.clientX, event.clientY, `layer ${layer}, expert ${e}, ${tokensText(run.load.tokens[t])}`,
      [[null, "of an even share", known(times[t][layer][e]) ? times[t][layer][e].toFixed(2) + "×" : "–"]]);
  };
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerdown", move);
  canvas.addEventListener("pointerleave", hideTip);
  return el("div", { class: "strip" }, el("span", {}, el("span", {}, `layer ${layer}`),
    el("span", {}, `${fixed(Math.min(...last), 2)}–${fixed(Math.max(...last), 3)}× at the end`)), canvas);
}

function loadFigure() {
  const usable = routed.filter(m => m.runs.some(i => runs[i].load));
  if (!usable.length) return null;
  const first = usable.find(m => m.base === "simbal") || usable[0], others = usable.filter(m => m !== first);
  const choice = { sides: [first, others.find(m => m === baseline) || others[0]].filter(Boolean), seed: 0, sorted: true };
  const panels = el("div", { class: "grid", style: "--cell:300px" });
  const draw = () => panels.replaceChildren(...choice.sides.map(m => {
    const mine = m.runs.map(i => runs[i]).filter(r => r.load), run = mine[Math.min(choice.seed, mine.length - 1)];
    return el("div", {}, el("p", { class: "heading" }, el("span", { class: "swatch", style: `background:${m.color}` }), m.name, el("span", {}, `, seed ${run.seed}, ${tokensText(run.tokens)} from left to right`)),
      ...run.load.share[0].map((_, layer) => heatStrip(run, layer, choice.sorted)));
  }));
  const select = (label, options, value, change) => {
    const box = el("select", { "aria-label": label }, ...options.map(([name, key]) => el("option", { value: key, selected: key === value }, name)));
    box.addEventListener("change", () => { change(Number(box.value)); draw(); });
    return el("label", {}, label, box);
  };
  const seeds = Math.max(...usable.map(m => m.runs.filter(i => runs[i].load).length));
  const sort = el("input", { type: "checkbox", checked: true });
  sort.addEventListener("change", () => { choice.sorted = sort.checked; draw(); });
  const names = usable.map(m => [m.name, m.index]);
  const controls = el("div", { class: "controls" },
    ...choice.sides.map((m, i) => usable.length > 1 ? select(i ? "right" : "left", names, m.index, v => { choice.sides[i] = methods[v]; }) : null),
    seeds > 1 ? select("seed", Array.from({ length: seeds }, (_, i) => [String(i + 1), i]), 0, v => { choice.seed = v; }) : null,
    el("label", {}, sort, "experts sorted by their load at the end"),
    el("span", { class: "scale" }, "¼", el("i", { style: "background:linear-gradient(90deg,var(--cold),var(--even),var(--warm))" }), "4× an even share", el("b", {}), "no token"));
  draw();
  drawings.push(draw);
  return figure("Each row of a strip is an expert: blue ones serve less than an even share, orange ones more, black ones nothing at that time. The fewer colours, the better the balance.", controls, panels);
}

// Points with whiskers for each layer: sd over seeds, or a single run's standard error over tokens.
function pesFigure() {
  const list = routed.filter(m => m.layers.pes);
  if (!list.length) return null;
  const single = list.every(m => m.counted.length === 1);
  const plot = responsive(width => {
    const visible = shown(list), layers = Math.max(1, ...visible.map(m => m.layers.pes.length));
    const error = (m, l) => known(m.layers.pes[l].sd) ? m.layers.pes[l].sd : m.layers.pes_se && m.layers.pes_se[l] ? m.layers.pes_se[l].mean : null;
    const values = visible.flatMap(m => m.layers.pes.flatMap((p, l) => known(p.mean) ? [p.mean - (error(m, l) || 0), p.mean + (error(m, l) || 0)] : []));
    const f = frame(width, width > 560 ? 300 : 230, { xs: [-.5, layers - .5], ys: extent([0, ...values]), xTicks: Array.from({ length: layers }, (_, l) => l),
      xFormat: String, xLabel: "layer", label: "PES per layer. " + list.map(m => `${m.name}: ${m.layers.pes.map(p => fixed(p.mean, 2)).join(", ")}`).join("; ") });
    const slot = (f.right - f.left) / layers, spread = Math.min(16, slot * .7 / Math.max(1, visible.length));
    visible.forEach((m, i) => {
      const group = svg("g", { "data-m": m.index, stroke: m.color, fill: "none" });
      const at = m.layers.pes.map((p, l) => [f.x(l) + (i - (visible.length - 1) / 2) * spread, known(p.mean) ? f.y(p.mean) : NaN]);
      group.append(svg("path", { d: path(at), "stroke-width": .8, "stroke-opacity": .5, "stroke-dasharray": m.dash || null }));
      m.layers.pes.forEach((p, l) => {
        if (!known(p.mean)) return;
        const e = error(m, l), mark = svg("g", {});
        if (known(e)) mark.append(svg("path", { d: `M${at[l][0]} ${f.y(p.mean - e)}V${f.y(p.mean + e)}`, "stroke-width": 1.5 }));
        mark.append(svg("circle", { cx: at[l][0], cy: at[l][1], r: 4, fill: m.color, stroke: "var(--paper)" }),
          svg("circle", { cx: at[l][0], cy: at[l][1], r: 11, fill: "transparent", stroke: "none" }));
        mark.addEventListener("pointermove", ev => showTip(ev.clientX, ev.clientY, `layer ${l}`, [[m.color, m.name, plain({ mean: p.mean, sd: e })]]));
        mark.addEventListener("pointerleave", hideTip);
        group.append(mark);
      });
      f.node.append(group);
    });
    return f.node;
  });
  return figure(`Mean cosine between the outputs of every two experts given the same token; lower means that experts know different things. Bars: ${single ? "standard error over tokens" : "standard deviation over seeds"}.`, plot);
}

function timeFigure() {
  const metrics = [["entropy", "Router entropy", "nats, all experts"], ["entropy_topk", "Entropy of the active experts", "nats"],
    ["changed", "Tokens rerouted", "share, since the last validation"], ["used", "Unique experts used", "mean over layers"],
    ["load_max", "Busiest expert", "load over an even share"], ["seu", "Experts used by a sequence", "share of all"]];
  const plots = metrics.map(([key, heading, unit]) => {
    const series = curves(routed, key).map(dense);
    return series.length ? titled(heading, unit, linePlot(series, { xLabel: "tokens", xFormat: short, height: 210, zero: key === "used", title: tokensText,
      label: `${heading} (${unit}) over tokens. At the end: ${endsOf(series)}.` })) : null;
  }).filter(Boolean);
  return plots.length ? figure("A router that has settled changes few tokens' experts; falling entropy is confidence, a falling count of experts is collapse. Means over layers" + (routed.some(m => m.counted.length > 1) ? "; bands are one standard deviation over seeds." : "."),
    el("div", { class: "grid" }, ...plots)) : null;
}

function gramFigure() {
  const series = curves(routed, "gram_mean_square").map(s => ({ ...s, y: s.y.map((y, i) => y > 0 && s.x[i] > 0 ? y : null) })).map(dense).filter(s => s.y.length);
  if (!series.length) return null;
  const theirs = data.paper.rows.find(r => r.metric === "gram_mean_square");
  return figure(`How far the router's rows are from orthonormal: mean square entry of WWᵀ − I, mean over layers. SimBal, alone or with another method, should hold it powers of ten below ${methods.length > 1 ? "the rest" : "the upper line"}.`,
    linePlot(series, { xLabel: "tokens", xFormat: short, yLog: true, names: true, height: 280, title: tokensText,
      references: [{ value: theirs.lbl, text: "paper, LBL", end: false }, { value: theirs.simbal, text: "paper, SimBal", end: false }],
      label: `Gram distance over tokens, logarithmic. At the end: ${endsOf(series)}.` }));
}

function cutSeries(kind, at, key) {
  return routed.filter(m => m[kind].some(p => known(p[key].mean)))
    .map(m => ({ method: m, x: m[kind].map(p => p[at]), y: m[kind].map(p => p[key].mean), sd: m[kind].map(p => p[key].sd) }));
}

function pruneFigure() {
  const perplexity = cutSeries("prune", "below", "perplexity"), active = cutSeries("prune", "below", "active_experts");
  if (!perplexity.length) return null;
  const options = { xLabel: "threshold τ", xTicks: [...new Set(perplexity.flatMap(s => s.x))], xFormat: String, markers: true, height: 250, title: x => `gate weights below ${x} dropped` };
  const theirs = data.paper.prune, whole = theirs[0], last = theirs[theirs.length - 1];
  return figure(`Experts whose gate weight is below τ are not computed. A router with clear preferences gives up experts (right) for little perplexity (left). In the paper (MoE-L), τ = ${last.below} raised LBL's from ${fixed(whole.lbl)} to ${fixed(last.lbl)} and SimBal's from ${fixed(whole.simbal)} to ${fixed(last.simbal)}.`,
    el("div", { class: "grid", style: "--cell:440px" },
      titled("Perplexity", "", linePlot(perplexity, { ...options, names: true, label: `Perplexity over the pruning threshold. At the largest: ${endsOf(perplexity)}.` })),
      active.length ? titled("Active experts", "per token and layer", linePlot(active, { ...options, zero: true, names: true, label: `Active experts over the pruning threshold. At the largest: ${endsOf(active)}.` })) : null));
}

function dropFigure() {
  const series = cutSeries("drop_top", "n", "loss");
  if (!series.length) return null;
  return figure("Each token passes over its n best experts. The steeper the rise, the less its other experts can stand in for them: the more each one has specialised.",
    linePlot(series, { xLabel: "best experts passed over", xTicks: [...new Set(series.flatMap(s => s.x))], xFormat: String, markers: true, names: true, height: 260, title: x => `${x} best passed over`,
      label: `Loss when the best experts are dropped. At the end: ${endsOf(series)}.` }));
}

function gateFigure() {
  const list = routed.filter(m => m.gates);
  if (!list.length) return null;
  const layers = Math.max(...list.map(m => m.gates.length));
  const box = el("div", {}), bin = i => (i + .5) / 16;
  const draw = layer => {
    const series = list.map(m => {
      const rows = layer < 0 ? m.gates : m.gates.slice(layer, layer + 1);
      const y = Array.from({ length: 16 }, (_, g) => { const v = rows.map(r => r[g]).filter(known); return v.length ? v.reduce((a, b) => a + b, 0) / v.length : null; });
      return { method: m, x: y.map((_, i) => bin(i)), y };
    });
    box.replaceChildren(linePlot(series, { xLabel: "weight of an active expert", xFormat: x => String(x), zero: true, markers: true, height: 260,
      yFormat: y => percent(y), title: x => `weights from ${(x - 1 / 32).toFixed(2)} to ${(x + 1 / 32).toFixed(2)}`,
      label: "Distribution of the gate weights of active experts, in sixteen bins." }));
  };
  const select = el("select", { "aria-label": "layer" }, el("option", { value: -1 }, "all layers"), ...Array.from({ length: layers }, (_, l) => el("option", { value: l }, `layer ${l}`)));
  select.addEventListener("change", () => draw(Number(select.value)));
  draw(-1);
  const divided = list.every(m => runs[m.runs[0]].model.norm_topk), softmax = list.every(m => runs[m.runs[0]].model.gate === "softmax");
  const reading = divided ? " Mass near 0 and 1 is a router that decides; mass near 1/K one that hardly prefers any."
    : softmax ? " Mass near 1 is a router that decides; mass near 1/E, for E experts, one that hardly prefers any." : "";
  return figure(`Shares of the active experts' weights${divided ? ", which add up to 1" : ""}.${reading}`,
    el("div", { class: "controls" }, el("label", {}, "of", select)), box);
}
