"use strict";

// What the charts show. Vega-Lite draws them; nothing here draws, and text is only ever set as text.

// ---- elements ----

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "colour") made.style.setProperty("--colour", value);
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

const COLOURS = 6;
const colour = (group) => `var(--c${group % COLOURS})`;

// ---- numbers ----

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const count = (value) => whole.format(value);
const short = (value) => (Math.abs(value) < 10 && value % 1 ? String(Number(value.toPrecision(2))) : compact.format(value));
const percent = (value) => `${Math.round(value * 100)} %`;
const money = (value) => (value >= 1 ? `$${compact.format(value)}` : `$${Number(value.toPrecision(2))}`);

function span(seconds) {
  if (seconds === 0) return "0";
  if (seconds < 0.001) return `${Number((seconds * 1e6).toPrecision(3))} µs`;
  if (seconds < 1) return `${Number((seconds * 1e3).toPrecision(3))} ms`;
  if (seconds < 60 || (seconds < 180 && seconds % 60)) return `${Number(seconds.toPrecision(3))} s`;
  if (seconds < 10800) return `${Number((seconds / 60).toPrecision(3))} min`;
  return `${Number((seconds / 3600).toPrecision(3))} h`;
}

// Charts name their formats by these names.
const formats = { count, short, percent, money, span, clock: (ms) => span(ms / 1000), decade: (seconds) => (seconds < 1 ? span(seconds) : `${count(seconds)} s`) };
for (const [name, format] of Object.entries(formats)) {
  vega.expressionFunction(name, (value) => (value === null || value === undefined ? "?" : format(value)));
}

// ---- how a chart looks: the page's own colours, as they are now ----

const dark = matchMedia("(prefers-color-scheme: dark)");
const shade = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const shades = (group) => shade(`c${group % COLOURS}`);

function looks() {
  return {
    background: shade("panel"), font: getComputedStyle(document.body).fontFamily, customFormatTypes: true, padding: 2,
    view: { stroke: null }, legend: { disable: true, title: null, orient: "bottom", labelColor: shade("ink"), labelLimit: 240, symbolType: "stroke" },
    title: { color: shade("ink"), subtitleColor: shade("quiet"), anchor: "start", fontSize: 15 },
    text: { color: shade("ink"), fontSize: 12 },
    axis: {
      aria: false, title: null, titleColor: shade("quiet"), titleFontWeight: 400, labelColor: shade("quiet"), labelFontSize: 11,
      gridColor: shade("grid"), domainColor: shade("rule"), tickColor: shade("rule"), labelFlush: true, labelOverlap: true,
    },
    axisY: { domain: false, ticks: false, labelPadding: 6, tickCount: 4, minExtent: 36 },
    axisX: { grid: false, tickCount: 5 },
  };
}

const axis = (format, more) => ({ labelExpr: `${format}(datum.value)`, ...more });
// A logarithmic scale from one power of ten to another, with a line at each.
function decades(values) {
  const low = Math.floor(Math.log10(Math.min(...values)) + 1e-9), high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values)) - 1e-9));
  const powers = Array.from({ length: high - low + 1 }, (_, number) => Number((10 ** (low + number)).toPrecision(3)));
  return { scale: { type: "log", domain: [powers[0], powers[powers.length - 1]], nice: false }, ticks: { values: powers, tickCount: powers.length } };
}
const told = (field, title, format) => ({ field, title, formatType: format });

// ---- a chart in the page: drawn once, then given its new figures, so that nothing flickers ----

const kept = new Map();
const drawing = { turn: Promise.resolve() };

function chart(key, title, unit, said, spec, rows, heading = "h3") {
  const text = JSON.stringify([spec, looks(), title, unit]);
  let one = kept.get(key);
  if (!one || one.text !== text) {
    if (one) forget(key);
    const canvas = element("div", { class: "canvas" });
    const save = element("button", { type: "button", class: "save", "aria-label": `Save “${title}” as a PNG`, onclick: () => savePng(one) }, "PNG");
    const figure = element("figure", {}, element(heading, {}, title, " ", element("span", { class: "unit" }, unit)), canvas, save);
    one = { text, title, unit, spec, canvas, figure, save, view: null, shown: null };
    kept.set(key, one);
  }
  one.said = said;
  one.rows = rows;
  return one.figure;
}

function forget(key) {
  const one = kept.get(key);
  if (one.view) one.view.finalize();
  kept.delete(key);
}

const wholeSpec = (one, more) => ({
  $schema: "https://vega.github.io/schema/vega-lite/v5.json", width: "container", autosize: { type: "fit-x", contains: "padding" },
  ...one.spec, data: { name: "rows", values: one.rows }, description: one.said, ...more,
});
// Expressions are interpreted (`ast`), so that the page needs no right to make code out of text.
const options = (more) => ({ renderer: "svg", ast: true, actions: false, defaultStyle: false, tooltip: { disableDefaultStyle: true, offsetX: 14, offsetY: 14 }, ...more });

const NEAR = 400; // pixels beside the window
function near(figure) {
  const box = figure.getBoundingClientRect();
  return box.bottom > -NEAR && box.top < innerHeight + NEAR;
}

// Draws what stands in the page and is new, gives the rest its figures, and forgets what is gone. A run that
// is under way shares the machine with this page: what nobody looks at gets its figures when it is scrolled to.
function draw(everything) {
  drawing.turn = drawing.turn.then(async () => {
    for (const [key, one] of [...kept]) {
      if (kept.get(key) !== one) continue; // another has taken its place meanwhile
      if (!one.figure.isConnected) {
        forget(key);
        continue;
      }
      const shown = JSON.stringify([one.rows, one.said]);
      if (shown === one.shown || (one.view && !everything && !near(one.figure))) continue;
      one.shown = shown;
      if (one.view) await one.view.data("rows", one.rows).runAsync();
      else one.view = (await vegaEmbed(one.canvas, wholeSpec(one, { config: looks() }), options())).view;
      const svg = one.canvas.querySelector("svg");
      if (svg) {
        svg.setAttribute("role", "img");
        svg.removeAttribute("aria-roledescription");
        svg.setAttribute("aria-label", one.said);
      }
    }
  }).catch((error) => console.error(`a chart could not be drawn: ${error.stack || error}`));
  return drawing.turn;
}

let scrolled = 0;
addEventListener("scroll", () => {
  clearTimeout(scrolled);
  scrolled = setTimeout(() => draw(false), 60);
}, { passive: true });

// For somebody's slides: with its title and legend, which in the page stand beside it.
async function savePng(one) {
  const config = looks();
  config.legend.disable = false;
  const more = { config, width: 760, height: 380, padding: 16, title: { text: one.title, subtitle: one.unit } };
  const { view } = await vegaEmbed(element("div"), wholeSpec(one, more), options({ renderer: "none" }));
  const link = element("a", { href: await view.toImageURL("png", 2), download: `${one.title.replace(/[^\w]+/g, "-").slice(0, 60)}.png` });
  view.finalize();
  link.click();
}

// ---- what over time ----

const MOST_STEPS = 120; // as many as can be told apart in a panel

// As many rows whatever the time, a column a line: the mean of what was measured within a step; between two
// measurements what lies between them; null where nobody could tell.
function steps(lines) {
  const longest = Math.max(1, ...lines.map((line) => line.x[line.x.length - 1])), step = longest / MOST_STEPS;
  const rows = Array.from({ length: MOST_STEPS + 1 }, (_, number) => ({ t: Math.round(number * step * 1000) }));
  lines.forEach((line, number) => {
    const name = `y${number}`, sums = new Map();
    line.x.forEach((x, position) => {
      const place = Math.max(0, Math.min(MOST_STEPS, Math.round(x / step))), y = line.y[position];
      const [sum, known] = sums.get(place) || [0, 0];
      sums.set(place, y === null || y === undefined ? [sum, known] : [sum + y, known + 1]);
    });
    let last = null;
    for (const [place, [sum, known]] of [...sums].sort(([one], [other]) => one - other)) {
      const value = known ? sum / known : null;
      rows[place][name] = value;
      for (let between = last === null ? place : last + 1; between < place; between++) {
        const from = rows[last][name], share = (between - last) / (place - last);
        rows[between][name] = from === null || value === null ? null : from + (value - from) * share;
      }
      last = place;
    }
    for (const row of rows) if (row[name] === undefined) row[name] = null;
  });
  return rows;
}

function overTime(key, title, unit, lines, format, least) {
  const rows = steps(lines);
  const domain = [...new Set(lines.map((line) => line.name))];
  const range = domain.map((name) => shades(lines.find((line) => line.name === name).group));
  const said = lines.map((line) => `${line.name}: highest ${formats[format](Math.max(0, ...line.y.filter((value) => value !== null)))}`).join("; ");
  const alike = new Map();
  const seen = lines.slice(0, 8).map((line, number) => {
    const place = (alike.get(line.name) || 0) + 1;
    alike.set(line.name, place);
    return told(`y${number}`, line.repeat ? `${line.name}, run ${place}` : line.name, format);
  });
  const spec = {
    height: 160,
    encoding: {
      x: { field: "t", type: "temporal", scale: { type: "utc", nice: false }, axis: axis("clock") },
      y: { type: "quantitative", scale: { zero: true }, axis: axis(format, { grid: true }) },
    },
    layer: [
      { transform: [{ filter: "datum.t === 0" }], mark: { type: "point", opacity: 0, aria: false }, encoding: { y: { datum: least || 0 } } },
      ...lines.map((line, number) => ({
        mark: { type: "line", strokeWidth: line.repeat ? 1.2 : 2, opacity: line.repeat ? 0.7 : 1, strokeJoin: "round", aria: false, invalid: "break-paths-filter-domains" },
        encoding: { y: { field: `y${number}` }, color: { datum: line.name, scale: { domain, range } } },
      })),
      {
        // To be pointed at, a column a step; page.css shows the one that is.
        name: "pointed",
        mark: { type: "rule", strokeWidth: { expr: `width / ${MOST_STEPS} + 1` }, color: shade("quiet"), opacity: 0, aria: false },
        encoding: { tooltip: [told("t", "at", "clock"), ...seen] },
      },
    ],
  };
  return chart(key, title, unit, `${title}, ${unit}, over time. ${said}`, spec, rows);
}

// ---- latencies: of each stage, a shape a queue ----

function latencies(data) {
  const stages = Object.entries(data.stages).filter(([stage]) => data.groups.some((group) => group.distribution[stage].length));
  if (!stages.length) return null;
  const said = data.groups
    .map((group) => `${group.name}: ` + stages.map(([stage, name]) => `${name} p50 ${span(group.latency_ms[stage].p50 / 1000)}, p99 ${span(group.latency_ms[stage].p99 / 1000)}`).join("; "))
    .join(". ");
  const rows = [], wide = 1.01 ** 12, low = 1e-6;
  stages.forEach(([stage, name], place) => {
    const floor = stages.length - 1 - place;
    rows.push({ floor, name });
    data.groups.forEach((group, number) => {
      const bins = group.distribution[stage];
      if (!bins.length) return;
      const most = Math.max(...bins.map(([, many]) => many)), shape = `${place}/${number}`;
      let last = null;
      const corner = (x, share) => rows.push({ shape, x: Math.max(x, low), top: floor + share * 0.66, floor, group: group.name });
      for (const [end, many] of bins) {
        const from = end / 1000 / wide, beside = last !== null && from < last * 1.001;
        if (last !== null && !beside) corner(last, 0);
        corner(beside ? last : from, many / most);
        last = end / 1000;
      }
      corner(last, 0);
      for (const quantile of ["p50", "p99"]) {
        rows.push({ mark: quantile, value: Math.max(group.latency_ms[stage][quantile] / 1000, low), bottom: floor, roof: floor + 0.66, group: group.name, stage: name });
      }
    });
  });
  const names = data.groups.map((group) => group.name), range = data.groups.map((_, number) => shades(number));
  const color = { field: "group", type: "nominal", scale: { domain: names, range } };
  const y = (field) => ({ field, type: "quantitative", scale: { domain: [0, stages.length], nice: false }, axis: null });
  const { scale, ticks } = decades(rows.flatMap((row) => (row.shape ? [row.x] : row.mark ? [row.value] : [])));
  const x = (field) => ({ field, type: "quantitative", scale, axis: axis("decade", { ...ticks, grid: true, ticks: false }) });
  const spec = {
    height: stages.length * 62,
    layer: [
      { transform: [{ filter: "isValid(datum.name)" }], mark: { type: "rule", color: shade("rule"), aria: false }, encoding: { y: y("floor") } },
      {
        transform: [{ filter: "isValid(datum.shape)" }], mark: { type: "area", interpolate: "step-after", opacity: 0.35, aria: false },
        encoding: { x: x("x"), y: y("top"), y2: { field: "floor" }, color, detail: { field: "shape" } },
      },
      {
        transform: [{ filter: "isValid(datum.mark)" }], mark: { type: "rule", strokeWidth: 2, aria: false },
        encoding: {
          x: x("value"), y: y("bottom"), y2: { field: "roof" }, color, strokeDash: { field: "mark", type: "nominal", scale: { domain: ["p50", "p99"], range: [[1, 0], [2, 2]] }, legend: null },
          tooltip: [{ field: "group", title: "of" }, { field: "stage", title: "stage" }, { field: "mark", title: "quantile" }, told("value", "took", "span")],
        },
      },
      {
        transform: [{ filter: "isValid(datum.name)" }], mark: { type: "text", align: "left", baseline: "middle", dx: 4, aria: false },
        encoding: { x: { value: 0 }, y: { ...y("floor"), bandPosition: 0 }, yOffset: { value: -50 }, text: { field: "name" } },
      },
    ],
  };
  return chart("latencies", "Latency by stage", "logarithmic; each shape scaled to its own peak; line: p50, dotted: p99", said, spec, rows);
}

// ---- what a queue costs by volume ----

function costByVolume(data) {
  const lines = data.groups.map((group, number) => ({
    name: group.name + (group.local ? " (what AWS would bill)" : ""), shade: shades(number), fixed: group.cost.queue_usd_per_month_fixed,
    each: group.cost.queue_usd_per_million / 1e6, even: group.cost.break_even_messages_per_day, dashed: false,
  }));
  if (!data.groups.some((group) => group.label === "Redis") && lines.length) {
    lines.push({ name: "a Redis", shade: shades(5), fixed: data.groups[0].cost.redis_usd_per_month, each: 0, even: null, dashed: true });
  }
  const days = 730 / 24, volume = data.groups[0].cost.messages_per_day;
  const price = (line, messages) => line.fixed + line.each * messages * days;
  const said = lines.map((line) => `${line.name}: ${money(price(line, volume))} a month at ${count(volume)} messages a day`).join("; ");
  const evens = lines.filter((line) => line.even);
  const low = Math.floor(Math.log10(Math.min(volume, ...evens.map((line) => line.even))) - 1);
  const high = Math.ceil(Math.log10(Math.max(volume, ...evens.map((line) => line.even))) + 0.7);
  const rows = [{ volume, told: `${compact.format(volume)} a day` }];
  for (const line of lines) {
    for (let step = 0; step <= 60; step++) {
      const messages = 10 ** (low + ((high - low) * step) / 60);
      rows.push({ name: line.name, messages, usd: Math.max(price(line, messages), 0.01), dashed: line.dashed });
    }
    if (line.even) rows.push({ even: line.even, usd: price(line, line.even), told: `same price at ${compact.format(line.even)} a day` });
  }
  const across = decades([10 ** low, 10 ** high]), up = decades([1, 10, ...rows.filter((row) => row.messages).map((row) => row.usd)]);
  const x = (field) => ({ field, type: "quantitative", scale: across.scale, axis: axis("short", across.ticks) });
  const y = { field: "usd", type: "quantitative", scale: up.scale, axis: axis("money", { grid: true, ...up.ticks }) };
  const only = (field) => [{ filter: `isValid(datum.${field})` }];
  const spec = {
    height: 220,
    layer: [
      { transform: only("volume"), mark: { type: "rule", strokeDash: [3, 3], color: shade("quiet"), aria: false }, encoding: { x: x("volume") } },
      { transform: only("volume"), mark: { type: "text", align: "left", baseline: "top", dx: 5, color: shade("quiet"), aria: false }, encoding: { x: x("volume"), y: { value: 0 }, text: { field: "told" } } },
      {
        transform: only("messages"), mark: { type: "line", strokeWidth: 2, aria: false },
        encoding: {
          x: x("messages"), y, color: { field: "name", type: "nominal", scale: { domain: lines.map((line) => line.name), range: lines.map((line) => line.shade) } },
          strokeDash: { field: "dashed", type: "nominal", scale: { domain: [false, true], range: [[1, 0], [5, 4]] }, legend: null },
        },
      },
      { transform: only("even"), mark: { type: "point", filled: true, size: 60, fill: shade("panel"), stroke: shade("ink"), strokeWidth: 2, opacity: 1, aria: false }, encoding: { x: x("even"), y } },
      { transform: only("even"), mark: { type: "text", align: "right", dx: -9, dy: -9, aria: false }, encoding: { x: x("even"), y, text: { field: "told" } } },
    ],
  };
  return chart("cost", "The queue alone, a month", "USD by messages a day, both logarithmic", said, spec, rows);
}
