"use strict";
const told = JSON.parse(document.getElementById("data").textContent);
const STEP = 50;  // rows of a table that are shown at a time
const sizes = { nonzeros: "non-zero weights", bytes: "bytes", latency_ms: "latency (ms)" };
const style = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const say = text => { const said = document.getElementById("said"); said.textContent = text; setTimeout(() => { said.textContent = ""; }, 2500); };
const figures = x => x == null ? "–" : Number(x.toPrecision(4)).toLocaleString("en");

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/* Charts: each is an object of ECharts made when it comes into view, and again when light and dark change places. */

const charts = new Map();
const drawChart = plot => {
  const known = charts.get(plot);
  known.chart?.dispose();
  known.chart = echarts.init(plot, null, { renderer: "svg" });
  const option = known.option();
  known.chart.setOption(option);
  placeLabels(known.chart, option);
};

/* Gives each dot's label the first place beside it where it lies on no dot and on no other label; without one it has none, and
   hovering says what it is. Dots come in the order of their `rank`. */
const ruler = document.createElement("canvas").getContext("2d");
function placeLabels(chart, option) {
  const dots = option.series.flatMap((series, at) => series.type !== "scatter" || series.silent ? [] : series.data.map(dot => {
    const [x, y] = chart.convertToPixel({ seriesIndex: at }, dot.value);
    return { dot, x, y, box: [x - 7, y - 7, x + 7, y + 7] };
  }));
  const taken = dots.map(({ box }) => box), free = box => box[0] >= option.grid.left + 2 && box[2] <= chart.getWidth() && box[1] >= 0 && box[3] <= chart.getHeight() - option.grid.bottom &&
    !taken.some(other => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3]);
  ruler.font = "12px system-ui, sans-serif";
  for (const { dot, x, y } of dots.filter(({ dot }) => dot.text).sort((a, b) => (a.dot.rank ?? 9) - (b.dot.rank ?? 9))) {
    const width = ruler.measureText(dot.text).width + 4, half = width / 2;
    const places = { right: [x + 7.5, y - 8, x + 7.5 + width, y + 8], left: [x - 7.5 - width, y - 8, x - 7.5, y + 8], top: [x - half, y - 24, x + half, y - 7.5], bottom: [x - half, y + 7.5, x + half, y + 24] };
    const position = (dot.places ?? Object.keys(places)).find(name => free(places[name]));
    if (position) taken.push(places[position]);
    dot.label = { show: Boolean(position), position, distance: 4, formatter: dot.text, color: style("text"), fontSize: 12, backgroundColor: style("raised"), padding: [0, 2] };
  }
  chart.setOption({ series: option.series.map(({ type, data }) => type === "scatter" ? { data } : {}) });
}
const seen = new IntersectionObserver(entries => entries.filter(e => e.isIntersecting).forEach(e => {
  seen.unobserve(e.target);
  drawChart(e.target);
}), { rootMargin: "300px" });
const sized = new ResizeObserver(entries => entries.forEach(e => charts.get(e.target)?.chart && drawChart(e.target)));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((c, plot) => c.chart && drawChart(plot)));

function plotInto(parent, label, option) {
  const plot = element("div", { class: "plot", role: "img", "aria-label": label });
  parent.append(plot);
  charts.set(plot, { option });
  seen.observe(plot);
  sized.observe(plot);
  return plot;
}

const axis = more => ({
  nameLocation: "middle", nameGap: 28, nameTextStyle: { color: style("text") }, axisLabel: { color: style("soft"), hideOverlap: true },
  axisLine: { lineStyle: { color: style("soft") } }, splitLine: { lineStyle: { color: style("line") } }, ...more });
const base = more => ({
  animation: false, textStyle: { fontFamily: "system-ui, sans-serif" }, grid: { left: 62, right: 24, top: 16, bottom: 46 },
  tooltip: { confine: true, renderMode: "richText", backgroundColor: style("ground"), borderColor: style("line"), textStyle: { color: style("text") },
    formatter: item => item.data?.tip ?? item.seriesName }, ...more });
const tip = row => `${row.name}\nvalue ${figures(row.value)}` + (row.interval ? ` [${figures(row.interval[0])}, ${figures(row.interval[1])}], ${row.values.length} seeds` : "") +
  Object.entries(sizes).map(([key, name]) => row[key] ? `\n${name} ${figures(row[key])}` : "").join("") + (row.score == null ? "" : `\nscore ${figures(row.score)}`);
const compact = value => value >= 1e6 ? value / 1e6 + "M" : value >= 1e3 ? value / 1e3 + "k" : String(value);
const keep = { formatter: value => { if (value < 1) return ""; const share = 100 * (1 - 1 / value); return (share >= 99.99 ? share.toFixed(3) : share >= 99 ? share.toFixed(1) : share.toFixed(0)) + "%"; } };

function pareto(section, size) {
  const rows = section.rows.filter(row => row[size]), better = section.higher ? 1 : -1;
  const ordered = [...rows].sort((a, b) => a[size] - b[size] || better * (b.value - a.value));
  let best = -Infinity;
  const front = ordered.filter(row => better * row.value > best && ((best = better * row.value), true));
  const first = new Set(front);
  const series = ["dense", "sparse", "other"].map(kind => ({
    name: kind, type: "scatter", symbolSize: 10, z: 5, itemStyle: { color: style(kind) },
    data: rows.filter(row => row.kind === kind).map(row => ({ value: [row[size], row.value], text: row.name, rank: first.has(row) ? 0 : 1, tip: tip(row) })) }));
  const steps = front.flatMap((row, i) => i ? [[row[size], front[i - 1].value], [row[size], row.value]] : [[row[size], row.value]]);
  const bars = rows.filter(row => row.interval).flatMap(row => [[row[size], row.interval[0]], [row[size], row.interval[1]], [null, null]]);
  return base({
    xAxis: axis({ type: "log", name: sizes[size], axisLabel: { color: style("soft"), hideOverlap: true, formatter: compact } }),
    yAxis: axis({ type: "value", scale: true, boundaryGap: ["5%", "5%"], name: section.metric, nameGap: 44 }),
    series: [
      { type: "line", data: steps, symbol: "none", silent: true, lineStyle: { color: style("soft"), type: "dashed", width: 1.5 } },
      { type: "line", data: bars, symbol: "none", silent: true, connectNulls: false, lineStyle: { color: style("other"), width: 1, opacity: .7 } },
      ...series] });
}

function seeds(section, rows) {
  const at = row => rows.indexOf(row);
  const bars = rows.filter(row => row.interval).flatMap(row => [[row.interval[0], at(row)], [row.interval[1], at(row)], [null, null]]);
  const reference = section.rows.find(row => row.method === section.reference);
  return base({
    grid: { left: 180, right: 24, top: 16, bottom: 46 },
    xAxis: axis({ type: "value", scale: true, name: section.metric }),
    yAxis: axis({ type: "category", data: rows.map(row => row.name), inverse: true, axisLabel: { color: style("text"), width: 165, overflow: "truncate", interval: 0 } }),
    series: [
      { type: "line", data: bars, symbol: "none", silent: true, lineStyle: { color: style("text"), width: 1.5 } },
      { type: "scatter", silent: true, symbolSize: 5, itemStyle: { color: style("soft"), opacity: .7 }, data: rows.flatMap(row => row.values.map(v => [v, at(row)])) },
      { type: "scatter", symbol: "diamond", symbolSize: 11, data: rows.map(row => ({ value: [row.value, at(row)], tip: tip(row), itemStyle: { color: style(row.kind) } })),
        markLine: reference && { precision: 9, symbol: "none", silent: true, label: { show: false }, data: [{ xAxis: reference.value }], lineStyle: { color: style("dense") } } }] });
}

function curves(section, rows) {
  return base({
    xAxis: axis({ type: "value", name: "epochs or steps", axisLabel: { color: style("soft"), hideOverlap: true, formatter: compact } }),
    yAxis: axis({ type: "value", scale: true, name: section.metric, nameGap: 44 }),
    tooltip: { ...base({}).tooltip, trigger: "item" },
    grid: { left: 62, right: 130, top: 16, bottom: 46 },
    series: rows.map(row => ({ name: row.name, type: "line", showSymbol: false, triggerLineEvent: true, data: row.curve, lineStyle: { width: 1.5, color: style(row.kind) }, itemStyle: { color: style(row.kind) },
      emphasis: { focus: "series" } })).concat(rows.map(row => ({ type: "scatter", symbolSize: 5, itemStyle: { color: style(row.kind) }, data: [{ value: row.curve.at(-1), text: row.name, places: ["right"], tip: tip(row) }] }))) });
}

function across(sections, plain) {
  const symbols = ["circle", "rect", "triangle", "diamond", "pin", "arrow"];
  const colours = matchMedia("(prefers-color-scheme: dark)").matches
    ? ["#79b8ff", "#ffa657", "#7ee787", "#f0a5d8", "#d2a8ff", "#ffdf5d"] : ["#1a5fa8", "#b35900", "#1a7f37", "#a5287f", "#6639ba", "#7d6200"];
  const dots = section => section.rows.filter(row => row.score != null).map(row => ({
    value: [1 / Math.max(1 - row.sparsity, 1e-6), row.score], text: row.method, rank: -row.score,
    itemStyle: plain ? { color: style(row.kind) } : undefined, tip: `${section.domain}, ${section.data}\n${tip(row)}` }));
  const names = [...new Set(sections.map(section => section.domain))];
  const line = { z: 1, symbol: "none", silent: true, label: { show: false }, data: [{ yAxis: 1 }], lineStyle: { color: style("soft") } };
  return base({
    grid: { left: 56, right: 24, top: plain ? 12 : 40, bottom: 46 },
    legend: plain ? undefined : { top: 0, itemWidth: 12, itemHeight: 12, textStyle: { color: style("text"), fontSize: 13 } },
    xAxis: axis({ type: "log", name: "sparsity", min: .8, axisLabel: { color: style("soft"), hideOverlap: true, ...keep } }),
    yAxis: axis({ type: "value", scale: true, name: "score", nameGap: 40 }),
    series: names.map((name, i) => ({ name, type: "scatter", symbol: symbols[i % 6], symbolSize: 10, itemStyle: { color: colours[i % 6] },
      data: sections.filter(section => section.domain === name).flatMap(dots), markLine: i ? undefined : line })) });
}

/* Tables: rows are sorted and filtered as objects, and some are shown. */

const numeric = text => { const number = parseFloat(text.replace(/,/g, "")); return Number.isNaN(number) ? null : number; };

function table(section) {
  const columns = told.columns.map((column, at) => ({ ...column, at })).filter(({ at }) => section.rows.some(row => row.cells[at]));
  let order = section.rows.map(row => ({ row, text: [...row.cells, row.name].join(" ").toLowerCase() })), kept = order, from = 0;
  const body = element("tbody"), count = element("span", { class: "small" });
  const turn = (by, text) => element("button", { class: "plain", type: "button", onclick: () => { from += by; show(); } }, text);
  const before = turn(-STEP, "rows before"), after = turn(STEP, "rows after");
  const heads = columns.map((column, place) => element("th", { scope: "col", class: column.number ? false : "words", "aria-sort": "none" },
    element("button", { type: "button", onclick: () => sort(place) }, column.heading)));

  function show() {
    body.replaceChildren(...kept.slice(from, from + STEP).map(({ row }) => row.element ??= line(row)));
    before.hidden = after.hidden = kept.length <= STEP;
    before.disabled = from === 0;
    after.disabled = from + STEP >= kept.length;
    count.textContent = kept.length <= STEP ? `${kept.length} of ${order.length} rows` : `rows ${from + 1} to ${Math.min(from + STEP, kept.length)} of ${kept.length}`;
  }
  const copy = row => () => navigator.clipboard.writeText(row.commands.join("\n")).then(() => say("copied"), () => prompt("The command", row.commands.join(" && ")));
  const line = row => element("tr", { class: row.kind }, ...columns.map(({ number, at }) => element("td", { class: number ? false : row.cells[at].length > 40 ? "words long" : "words" }, row.cells[at])),
    element("td", {}, element("button", { class: "plain", type: "button", title: row.commands.join("\n"), "aria-label": `copy the command of ${row.name}`, onclick: copy(row) }, "copy")));

  function sort(place) {
    const { number, at } = columns[place], now = heads[place].getAttribute("aria-sort");
    const rising = now === "none" ? !number : now === "descending";  // the largest number first, the first word first
    const sign = rising ? 1 : -1;
    heads.forEach((head, i) => head.setAttribute("aria-sort", i !== place ? "none" : rising ? "ascending" : "descending"));
    const keys = new Map(order.map(item => [item, number ? numeric(item.row.cells[at]) : item.row.cells[at]]));
    order.sort((a, b) => {
      const x = keys.get(a), y = keys.get(b);
      return x === null || y === null ? (x === null) - (y === null) : sign * (x < y ? -1 : x > y ? 1 : 0);  // what has no number stands last
    });
    filter();
  }
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    kept = order.filter(item => words.every(word => item.text.includes(word)));
    from = 0;
    show();
  }
  const search = element("input", { type: "search", "aria-label": `filter the rows of ${section.domain}, ${section.data}`, placeholder: "filter: rigl 90%", oninput: filter });
  show();
  return [
    element("div", { class: "tools" }, search, count, before, after),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `table of ${section.domain}, ${section.data}` },
      element("table", {}, element("thead", {}, element("tr", {}, ...heads, element("th", { scope: "col" }, "command"))), body))];
}

/* The page */

function choices(section, place, redraw) {
  const there = Object.keys(sizes).filter(size => section.rows.some(row => row[size]));
  return element("fieldset", {}, element("legend", {}, "against"), ...there.map((size, i) => element("label", {},
    element("input", { type: "radio", name: `size-${place}`, value: size, checked: i === 0 ? "" : false, onchange: () => redraw(size) }), " " + sizes[size])));
}

const shownOrHeard = (source, caption) => source.startsWith("data:audio")
  ? element("audio", { src: source, controls: "", preload: "none", "aria-label": caption })
  : element("img", { src: source, alt: caption, loading: "lazy", onload: ({ target }) => target.parentNode.classList.toggle("wide", target.naturalWidth > 4 * target.naturalHeight) });

function draw(section, place) {
  const home = element("section", { id: section.id, "aria-labelledby": section.id + "-heading" },
    element("h2", { id: section.id + "-heading" }, `${section.domain}: ${section.data}`),
    element("p", {}, `${section.metric}, ${section.higher ? "higher" : "lower"} is better; floor ${figures(section.floor)}, reference ${section.reference}. ${section.sentence}`));
  const all = element("div", { class: "charts" });
  const shown = section.rows.slice(0, 24), learned = section.rows.filter(row => row.curve).slice(0, 24);
  let size = Object.keys(sizes).find(name => section.rows.some(row => row[name]));
  const parts = [
    size && ["What it takes: the Pareto front", figure => {
      const redraw = to => { size = to; drawChart(plot); };
      figure.append(choices(section, place, redraw));
      const plot = plotInto(figure, `${section.metric} by size, the numbers are in the table below`, () => pareto(section, size));
    }],
    [`What it scores: seeds, means, 95% intervals${shown.length < section.rows.length ? ` (${shown.length} of ${section.rows.length})` : ""}`, figure => {
      const plot = plotInto(figure, `${section.metric} of ${shown.length} methods, the numbers are in the table below`, () => seeds(section, shown));
      plot.style.height = `${Math.max(14, 5 + 1.5 * shown.length)}rem`;
    }],
    learned.length && ["How it learned: means over seeds", figure => plotInto(figure, `learning curves of ${learned.length} methods`, () => curves(section, learned))],
  ];
  for (const [heading, fill] of parts.filter(Boolean)) {
    const figure = element("figure", { class: "chart" }, element("h3", {}, heading));
    fill(figure);
    all.append(figure);
  }
  home.append(all, ...table(section));
  if (section.pictures.length) home.append(element("div", { class: "pictures" }, ...section.pictures.map(({ caption, sources }) =>
    element("figure", {}, ...sources.map(source => shownOrHeard(source, caption)), element("figcaption", { class: "small" }, caption)))));
  home.append(element("p", { class: "small" }, section.versions + (section.commit ? `; commit ${section.commit}` : "")));
  return home;
}

document.querySelectorAll(".spark").forEach(spark =>
  plotInto(spark, `score by sparsity, ${spark.dataset.domain}`, () => across(told.sections.filter(section => section.domain === spark.dataset.domain), true)));
plotInto(document.querySelector("[data-chart=across]"), "score by sparsity of all domains, the numbers are in the tables below", () => across(told.sections, false));
const rest = [...told.sections.entries()];
const sections = document.getElementById("sections");
(function fill() {  // one section at a time, so that the first screen is there at once
  const [place, section] = rest.shift() ?? [];
  if (section) { sections.append(draw(section, place)); setTimeout(fill); } else document.body.dataset.drawn = "";
})();
