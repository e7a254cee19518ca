"use strict";

// ---- elements: text is only ever set as text, never as markup ----

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

function shape(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "colour") made.style.setProperty("--colour", value);
    else made.setAttribute(name, value);
  }
  if (text !== undefined) made.textContent = text;
  return made;
}

const colour = (group) => `var(--c${group % 6})`;

// ---- numbers ----

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const count = (value) => whole.format(value);
const short = (value) => (value < 10 && value % 1 ? value.toFixed(1) : compact.format(value));
const percent = (value) => `${Math.round(value * 100)} %`;
const money = (value) => (value >= 1 ? `$${compact.format(value)}` : `$${Number(value.toPrecision(2))}`);

function span(seconds) {
  if (seconds < 0.001) return `${Number((seconds * 1e6).toPrecision(3))} µs`;
  if (seconds < 1) return `${Number((seconds * 1e3).toPrecision(3))} ms`;
  if (seconds < 60 || (seconds < 180 && seconds % 60)) return `${Number(seconds.toPrecision(3))} s`;
  if (seconds < 10800) return `${Number((seconds / 60).toPrecision(3))} min`;
  return `${Number((seconds / 3600).toPrecision(3))} h`;
}

function ticks(highest, about) {
  if (!(highest > 0)) return [0, 1];
  const rough = highest / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let value = 0; value < highest + step * 0.999; value += step) found.push(Number(value.toPrecision(10)));
  return found;
}

function timeTicks(longest, about) {
  const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
  const step = steps.find((size) => longest / size <= about) || 86400;
  const found = [];
  for (let value = 0; value <= longest + 1e-9; value += step) found.push(value);
  return found;
}

// ---- charts ----

const redraws = [];
let pointing = false;

function figure(title, unit, label, draw) {
  const canvas = element("div");
  const made = element("figure", {}, element("h3", {}, title, " ", element("span", { class: "unit" }, unit)), canvas);
  redraws.push(() => {
    const width = canvas.clientWidth;
    if (width) canvas.replaceChildren(draw(width, made, label));
  });
  return made;
}

function frame(width, height, label) {
  return shape("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
}

function lineChart(title, unit, lines, format, least) {
  const drawn = lines.filter((line) => line.x.length);
  const highest = Math.max(least || 0, ...drawn.flatMap((line) => line.y.filter((value) => value !== null)));
  const said = drawn.map((line) => `${line.name}: highest ${format(Math.max(0, ...line.y))}`).join("; ");
  return figure(title, unit, `${title}, ${unit}, over time. ${said}`, (width, owner, label) => {
    const height = 190, left = 46, right = 10, top = 8, bottom = 24;
    const svg = frame(width, height, label);
    const longest = Math.max(1, ...drawn.map((line) => line.x[line.x.length - 1]));
    const steps = ticks(highest || 1, 4);
    const roof = steps[steps.length - 1];
    const px = (x) => left + (x / longest) * (width - left - right);
    const py = (y) => height - bottom - (y / roof) * (height - top - bottom);
    for (const step of steps) {
      svg.append(shape("line", { class: step ? "grid" : "axis", x1: left, x2: width - right, y1: py(step), y2: py(step) }));
      svg.append(shape("text", { x: left - 6, y: py(step) + 4, "text-anchor": "end" }, format(step)));
    }
    for (const step of timeTicks(longest, Math.max(2, Math.floor(width / 70)))) {
      svg.append(shape("text", { x: px(step), y: height - 8, "text-anchor": step ? "middle" : "start" }, step ? span(step) : "0"));
    }
    for (const line of drawn) {
      let path = "", pen = "M";
      line.x.forEach((x, position) => {
        const y = line.y[position];
        if (y === null) { pen = "M"; return; }
        path += `${pen}${px(x).toFixed(1)},${py(y).toFixed(1)}`;
        pen = "L";
      });
      if (path) svg.append(shape("path", { class: `line${line.repeat ? " repeat" : ""}`, d: path, colour: line.colour }));
    }
    readOut(svg, owner, width, (x) => Math.max(0, ((x - left) / (width - left - right)) * longest), drawn, format, px, top, height - bottom);
    return svg;
  });
}

function readOut(svg, owner, width, toTime, lines, format, px, top, bottom) {
  const cross = shape("line", { class: "cross", y1: top, y2: bottom, visibility: "hidden" });
  svg.append(cross);
  let tip = null;
  const leave = () => {
    if (tip) tip.remove();
    tip = null;
    pointing = false;
    cross.setAttribute("visibility", "hidden");
  };
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const time = toTime(event.clientX - box.left);
    const rows = lines.slice(0, 8).map((line) => {
      let nearest = 0;
      line.x.forEach((x, position) => {
        if (Math.abs(x - time) < Math.abs(line.x[nearest] - time)) nearest = position;
      });
      const value = line.y[nearest];
      return element("div", {}, element("i", { colour: line.colour }), `${line.name}: ${value === null ? "?" : format(value)}`);
    });
    leave();
    pointing = true;
    cross.setAttribute("x1", px(time));
    cross.setAttribute("x2", px(time));
    cross.setAttribute("visibility", "visible");
    tip = element("div", { class: "tip" }, element("b", {}, span(time)), rows);
    owner.append(tip);
    const x = event.clientX - box.left;
    tip.style.top = "34px";
    if (x > width / 2) tip.style.right = `${width - x + 24}px`;
    else tip.style.left = `${x + 24}px`;
  });
}

function latencyChart(data) {
  const stages = Object.entries(data.stages).filter(([stage]) => data.groups.some((group) => group.distribution[stage].length));
  const ends = data.groups.flatMap((group) => stages.flatMap(([stage]) => group.distribution[stage].map(([end]) => end / 1000)));
  if (!ends.length) return null;
  const label = data.groups
    .map((group) => `${group.name}: ` + stages.map(([stage, name]) => `${name} p50 ${span(group.latency_ms[stage].p50 / 1000)}, p99 ${span(group.latency_ms[stage].p99 / 1000)}`).join("; "))
    .join(". ");
  return figure("Latency by stage", "logarithmic; each shape scaled to its own peak; line: p50, dotted: p99", label, (width, owner, text) => {
    const row = 62, top = 4, bottom = 24, side = 10;
    const height = top + stages.length * row + bottom;
    const svg = frame(width, height, text);
    const low = Math.floor(Math.log10(Math.min(...ends)) - 0.05);
    const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...ends))));
    const px = (seconds) => side + ((Math.log10(Math.max(seconds, 10 ** low)) - low) / (high - low)) * (width - 2 * side);
    const every = Math.ceil(((high - low) * 60) / width);
    for (let power = low; power <= high; power += every) {
      const x = px(10 ** power);
      svg.append(shape("line", { class: "grid", x1: x, x2: x, y1: top, y2: height - bottom }));
      const anchor = power === low ? "start" : power + every > high ? "end" : "middle";
      svg.append(shape("text", { x, y: height - 8, "text-anchor": anchor }, span(10 ** power)));
    }
    stages.forEach(([stage, name], place) => {
      const floor = top + (place + 1) * row;
      svg.append(shape("line", { class: "axis", x1: side, x2: width - side, y1: floor, y2: floor }));
      data.groups.forEach((group, number) => {
        const bins = group.distribution[stage];
        if (!bins.length) return;
        const most = Math.max(...bins.map(([, number_]) => number_));
        const wide = 1.01 ** 12;
        let path = "", last = null;
        for (const [end, number_] of bins) {
          const from = px(end / 1000 / wide), to = Math.max(px(end / 1000), from + 1.5);
          const y = floor - (number_ / most) * (row - 24);
          if (last === null || from - last > 1) path += `${last === null ? "" : `L${last.toFixed(1)},${floor}`}M${from.toFixed(1)},${floor}`;
          path += `L${from.toFixed(1)},${y.toFixed(1)}L${to.toFixed(1)},${y.toFixed(1)}`;
          last = to;
        }
        path += `L${last.toFixed(1)},${floor}`;
        svg.append(shape("path", { class: "fill", d: path, colour: colour(number) }));
        for (const quantile of ["p50", "p99"]) {
          const x = px(group.latency_ms[stage][quantile] / 1000);
          svg.append(shape("line", { class: `mark ${quantile}`, x1: x, x2: x, y1: floor - row + 24, y2: floor, colour: colour(number) }));
        }
      });
      svg.append(shape("text", { class: "name", x: side, y: floor - row + 15 }, name));
    });
    return svg;
  });
}

function costChart(data) {
  const lines = data.groups.map((group, number) => ({
    name: group.name + (group.local ? " (what AWS would bill)" : ""), colour: colour(number), fixed: group.cost.queue_usd_per_month_fixed,
    each: group.cost.queue_usd_per_million / 1e6, even: group.cost.break_even_messages_per_day, dashed: false,
  }));
  if (!data.groups.some((group) => group.label === "Redis") && lines.length) {
    lines.push({ name: "a Redis", colour: "var(--c5)", fixed: data.groups[0].cost.redis_usd_per_month, each: 0, even: null, dashed: true });
  }
  const days = 730 / 24;
  const volume = data.groups[0].cost.messages_per_day;
  const price = (line, messages) => line.fixed + line.each * messages * days;
  const label = lines.map((line) => `${line.name}: ${money(price(line, volume))} a month at ${count(volume)} messages a day`).join("; ");
  return figure("The queue alone, a month", "USD by messages a day, both logarithmic", label, (width, owner, text) => {
    const height = 240, left = 52, right = 14, top = 16, bottom = 24;
    const svg = frame(width, height, text);
    const evens = lines.map((line) => line.even).filter((even) => even);
    const low = Math.floor(Math.log10(Math.min(volume, ...evens)) - 1);
    const high = Math.ceil(Math.log10(Math.max(volume, ...evens)) + 0.7);
    const prices = lines.flatMap((line) => [price(line, 10 ** low), price(line, 10 ** high)]).filter((usd) => usd > 0);
    const cheap = Math.floor(Math.log10(Math.min(1, ...prices))), dear = Math.ceil(Math.log10(Math.max(10, ...prices)));
    const px = (messages) => left + ((Math.log10(messages) - low) / (high - low)) * (width - left - right);
    const py = (usd) => height - bottom - ((Math.log10(Math.max(usd, 10 ** cheap)) - cheap) / (dear - cheap)) * (height - top - bottom);
    for (let power = cheap; power <= dear; power++) {
      svg.append(shape("line", { class: power === cheap ? "axis" : "grid", x1: left, x2: width - right, y1: py(10 ** power), y2: py(10 ** power) }));
      svg.append(shape("text", { x: left - 6, y: py(10 ** power) + 4, "text-anchor": "end" }, money(10 ** power)));
    }
    for (let power = low; power <= high; power++) {
      const anchor = power === high ? "end" : "middle";
      svg.append(shape("text", { x: px(10 ** power), y: height - 8, "text-anchor": anchor }, compact.format(10 ** power)));
    }
    svg.append(shape("line", { class: "cross", x1: px(volume), x2: px(volume), y1: top, y2: height - bottom }));
    svg.append(shape("text", { x: px(volume), y: top - 5, "text-anchor": "middle" }, `${compact.format(volume)} a day`));
    for (const line of lines) {
      let path = "";
      for (let step = 0; step <= 60; step++) {
        const messages = 10 ** (low + ((high - low) * step) / 60);
        path += `${step ? "L" : "M"}${px(messages).toFixed(1)},${py(price(line, messages)).toFixed(1)}`;
      }
      svg.append(shape("path", { class: `line${line.dashed ? " dashed" : ""}`, d: path, colour: line.colour }));
    }
    for (const line of lines.filter((one) => one.even)) {
      const x = px(line.even), y = py(price(line, line.even));
      svg.append(shape("circle", { class: "dot", cx: x, cy: y, r: 4 }));
      svg.append(shape("text", { class: "name", x: x - 9, y: y - 9, "text-anchor": "end" }, `same price at ${compact.format(line.even)} a day`));
    }
    return svg;
  });
}

// ---- parts of the page ----

function legend(data) {
  return element("ul", { class: "legend" }, data.groups.map((group, number) =>
    element("li", {}, element("i", { colour: colour(number) }), group.name + (group.runs > 1 ? ` (${group.runs} runs)` : ""))));
}

const worst = ["invalid", "lost", "running", "valid"];

function card(data, group, number) {
  const runs = data.runs.filter((run) => run.group === number);
  const open = runs.find((run) => run.verdict === "running" || !run.ended_at);
  const marked = [...new Set(runs.map((run) => run.verdict))].sort((one, other) => worst.indexOf(one) - worst.indexOf(other));
  const verdicts = marked.map((kind) => {
    const same = runs.filter((run) => run.verdict === kind);
    const texts = [...new Set(same.map((run) => run.verdict_text))];
    const text = texts.length === 1 ? texts[0] : texts.join(" · ");
    return element("p", {}, element("span", { class: `verdict ${kind}` }, runs.length > 1 ? `${same.length} of ${runs.length} runs ${text}` : text));
  });
  const facts = [["bottleneck", element("span", { class: "strong" }, group.bottleneck)]];
  if (group.how_many) {
    facts.push(["how many", element("div", {}, element("span", { class: "strong" }, group.how_many.text),
      element("details", { "data-key": `how-${number}` }, element("summary", {}, "the arithmetic"),
        element("ul", {}, group.how_many.arithmetic.map((line) => element("li", {}, line)))))]);
  }
  const workers = group.cost.workers_usd_per_month;
  facts.push(["a month", `$${group.cost.queue_usd_per_month.toFixed(2)} for the queue` + (group.local ? " (what AWS would bill)" : "") +
    (workers === null ? "" : ` and $${workers.toFixed(2)} for workers`) + `, at ${count(group.cost.messages_per_day)} messages a day`]);
  const made = element("section", { class: "card", colour: colour(number) }, element("h2", {}, group.name), verdicts);
  if (open) {
    const series = open.series, last = series.t.length - 1;
    const depth = (place) => (last < 0 || series.depths[place][last] === null ? "?" : count(series.depths[place][last]));
    const rate = last < 0 ? 0 : series.rates.delivered[last];
    const done = open.messages ? open.counts.delivered / open.messages : 0;
    const left = Math.max(0, open.messages - open.counts.delivered - open.counts.dead_lettered);
    facts.unshift(
      ["published", `${count(open.counts.published)} of ${count(open.messages)}`],
      [`waiting in ${group.label}`, depth("queue")],
      ["in Celery", depth("celery")],
      ["delivered", `${count(open.counts.delivered)} (${short(rate)}/s${rate > 0 && left ? `, ${span(left / rate)} left` : ""})`]);
    made.append(element("div", { class: "bar", role: "progressbar", "aria-label": "delivered", "aria-valuenow": Math.round(done * 100), "aria-valuemin": 0, "aria-valuemax": 100 }, element("i", { style: `width:${(done * 100).toFixed(1)}%` })));
  }
  made.append(element("dl", {}, facts.map(([name, what]) => [element("dt", {}, name), element("dd", {}, what)])));
  for (const warning of new Set(runs.flatMap((run) => run.warnings))) made.append(element("p", { class: "warning" }, `⚠ ${warning}`));
  return made;
}

function comparisonTable(data) {
  const head = element("tr", {}, element("th", { scope: "col" }, element("span", { class: "quiet" }, "side by side")),
    data.groups.map((group, number) => element("th", { scope: "col", colour: colour(number) }, group.name)));
  const body = [];
  let section = "";
  for (const row of data.rows) {
    if (row.section !== section) {
      section = row.section;
      body.push(element("tr", { class: "section" }, element("th", { scope: "colgroup", colspan: data.groups.length + 1 }, section)));
    }
    const counted = row.name === "lost" || row.name === "duplicated" || row.name === "dead-lettered";
    body.push(element("tr", {}, element("th", { scope: "row" }, row.name), row.cells.map((cell) => {
      const words = row.name === "bottleneck" || row.name === "verdict";
      const bad = (row.name === "lost" && cell.text !== "0") || (row.name === "verdict" && /NOT|LOST/.test(cell.text));
      return element("td", { class: `${words ? "words" : ""}${bad ? " bad" : ""}` || null }, cell.text,
        cell.spread && !counted ? element("span", { class: "spread" }, cell.spread) : null);
    })));
  }
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Comparison" },
    element("table", {}, element("thead", {}, head), element("tbody", {}, body)));
}

function panels(data, names, pick, unit, format, least) {
  const made = names.map(([key, title]) => {
    const lines = data.runs.filter((run) => run.counted).map((run) => {
      const group = data.groups[run.group];
      return { name: group.name, colour: colour(run.group), repeat: group.runs > 1, x: run.series.t, y: pick(run.series, key) || [] };
    }).filter((line) => line.y.length);
    return lines.some((line) => line.y.some((value) => value)) ? lineChart(title, unit, lines, format, least) : null;
  }).filter(Boolean);
  return made.length ? element("div", { class: "panels" }, made) : element("p", { class: "quiet" }, "Nothing to draw: the run was over before a second had passed, or nothing happened.");
}

function costs(data) {
  const dearest = Math.max(...data.groups.map((group) => group.cost.queue_usd_per_month + (group.cost.workers_usd_per_month || 0)), 0.01);
  const bars = data.groups.flatMap((group, number) => {
    const cost = group.cost, workers = cost.workers_usd_per_month;
    const part = (usd) => element("i", { style: `width:${((usd / dearest) * 60).toFixed(1)}%`, colour: colour(number) });
    const text = `queue $${cost.queue_usd_per_month.toFixed(2)} + workers ${workers === null ? "?" : `$${workers.toFixed(2)}`}`;
    return [element("div", {}, group.name), element("div", { class: "stack" }, part(cost.queue_usd_per_month), part(workers || 0), element("span", {}, text))];
  });
  const volume = data.groups[0].cost.messages_per_day;
  return element("div", { class: "panels wide" },
    element("figure", {}, element("h3", {}, `A month at ${count(volume)} messages a day `, element("span", { class: "unit" }, "USD; solid: the queue, pale: the workers")),
      element("div", { class: "money" }, bars),
      data.groups.filter((group) => group.cost.break_even_messages_per_day).map((group) =>
        element("p", { class: "quiet" }, `${group.name} costs as much as a Redis at ${count(group.cost.break_even_messages_per_day)} messages a day: ` +
          `$${group.cost.queue_usd_per_month_fixed.toFixed(2)} a month for polling when idle + $${group.cost.queue_usd_per_million.toFixed(3)} per million messages, against $${group.cost.redis_usd_per_month.toFixed(2)}.` +
          (group.local ? " Local SQS: this is what AWS would bill." : "")))),
    costChart(data));
}

function runList(data) {
  return element("div", { class: "scroll" }, element("table", { class: "runs" },
    element("thead", {}, element("tr", {}, ["run", "queue", "started", "messages", "verdict"].map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, data.runs.map((run) => element("tr", {}, element("th", { scope: "row" }, run.run_id), element("td", {}, run.label),
      element("td", {}, moment(run.started_at)), element("td", {}, count(run.counts.published)), element("td", { class: "words" }, run.verdict_text))))));
}

function settings(data) {
  return data.runs.filter((run, place) => data.runs.findIndex((other) => other.group === run.group) === place).map((run) =>
    element("details", { "data-key": `settings-${run.group}` }, element("summary", {}, `Settings and versions: ${data.groups[run.group].name}`),
      element("ul", { class: "settings" }, [...Object.entries(run.settings), ...Object.entries(run.versions)].map(([name, value]) =>
        element("li", {}, element("code", {}, `${name}=${value}`))))));
}

const moment = (seconds) => new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 16) + " UTC";

// ---- the live page: earlier runs, chosen and compared ----

const chosen = new Set();

function earlier(data) {
  if (!data.history) return null;
  const button = element("button", { type: "button", disabled: chosen.size === 0, onclick: () => look([...chosen]) }, "Compare the chosen runs");
  const rows = data.history.map((run) => element("tr", {},
    element("td", {}, element("input", {
      type: "checkbox", "aria-label": `choose ${run.run_id}`, checked: chosen.has(run.run_id),
      onchange: (event) => {
        if (event.target.checked) chosen.add(run.run_id);
        else chosen.delete(run.run_id);
        button.disabled = chosen.size === 0;
      },
    })),
    element("td", {}, element("a", { href: `?runs=${encodeURIComponent(run.run_id)}` }, run.run_id)), element("td", {}, run.label),
    element("td", {}, moment(run.started_at)), element("td", {}, count(run.published)), element("td", {}, `${short(run.push_per_second)}/s`),
    element("td", {}, run.bottleneck), element("td", {}, element("span", { class: `verdict ${run.verdict}`, title: run.verdict_text },
      { valid: "valid", invalid: "not valid", lost: `lost ${count(run.lost)}`, running: "running" }[run.verdict]))));
  return element("section", { class: "history" }, element("h2", {}, "Earlier runs"),
    rows.length ? element("div", {}, button, element("div", { class: "scroll" }, element("table", { class: "runs" },
      element("thead", {}, element("tr", {}, ["", "run", "queue", "started", "messages", "push", "bottleneck", "verdict"].map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, rows)))) : element("p", { class: "quiet" }, "None yet: start a publisher."));
}

// ---- the page ----

function render(data) {
  const page = document.getElementById("page");
  const opened = new Set([...page.querySelectorAll("details[open]")].map((one) => one.dataset.key));
  const first = !page.dataset.drawn;
  redraws.length = 0;
  const parts = [];
  if (!data.groups.length) {
    parts.push(element("h1", {}, "No run yet"), element("p", { class: "quiet" }, "Start a publisher: python -m queuebench publisher. Its run shows here at once."));
  } else {
    const names = [...new Set(data.groups.map((group) => group.label))].join(" and ");
    const open = data.runs.some((run) => !run.ended_at);
    const title = open ? `Live: ${names}` : data.groups.length > 1 ? `${names}, side by side` : names;
    const published = [...new Set(data.runs.map((run) => `${count(run.messages)} messages`))].join(", ");
    document.title = `${title} – queuebench`;
    parts.push(element("header", { class: "head" }, element("div", {}, element("h1", {}, title),
      element("p", { class: "quiet" }, `${published} from publisher to endpoint · ${data.runs.length} run${data.runs.length > 1 ? "s" : ""} · ${moment(data.runs[0].started_at)}`)),
      data.shown && !open ? element("a", { class: "quiet", href: `report.html?runs=${data.shown.map(encodeURIComponent).join(",")}` }, "Save as a file") : null));
    parts.push(element("div", { class: "cards" }, data.groups.map((group, number) => card(data, group, number))));
    if (data.groups.some((group) => group.local)) parts.push(element("p", { class: "quiet" }, data.notes[data.notes.length - 1]));
    parts.push(comparisonTable(data));
    const chart = (heading, text, ...body) => parts.push(element("section", {}, element("h2", {}, heading), text ? element("p", { class: "quiet" }, text) : null, legend(data), ...body));
    chart("Rate over time", "Messages a second through each stage, from once-a-second samples: a burst shorter than that looks lower than it was; the table has its true rate.",
      panels(data, [["published", "Published"], ["received", "Received and handed over"], ["delivered", "Delivered"]], (series, key) => series.rates[key], "messages/s", short));
    chart("Depth over time", "What waits and what is in flight.",
      panels(data, [["queue", "In the queue"], ["celery", "In Celery"], ["dead_letters", "Dead letters"]], (series, key) => series.depths[key], "messages", short));
    const latency = latencyChart(data);
    if (latency) chart("Latencies", null, element("div", { class: "panels wide" }, latency));
    const roles = [...new Set(data.runs.flatMap((run) => Object.keys(run.series.cpu)))];
    const order = ["publisher", "subscriber", "worker", "endpoint"];
    roles.sort((one, other) => (order.indexOf(one) + 99) % 99 - (order.indexOf(other) + 99) % 99 || one.localeCompare(other));
    const named = { "queue (server)": "Redis, the queue", "broker (server)": "Redis, Celery's broker" };
    chart("CPU by role", "All processes of a role together; 100 % is one core.",
      panels(data, roles.map((role) => [role, named[role] || role[0].toUpperCase() + role.slice(1)]), (series, key) => series.cpu[key], "of a core", percent, 0.05));
    chart("Cost", data.notes[0], costs(data));
    parts.push(element("section", {}, element("h2", {}, "The runs"), runList(data), settings(data)));
    for (const note of data.notes.slice(1)) parts.push(element("p", { class: "quiet" }, note));
  }
  parts.push(earlier(data));
  page.replaceChildren(...parts.filter(Boolean));
  for (const one of page.querySelectorAll("details")) one.open = opened.has(one.dataset.key);
  for (const redraw of redraws) redraw();
  page.dataset.drawn = "yes";
  if (first) new ResizeObserver(() => redraws.forEach((redraw) => redraw())).observe(page);
}

let asking = 0;

function look(runs) {
  const query = runs.length ? `?runs=${runs.map(encodeURIComponent).join(",")}` : "";
  history.pushState(null, "", query || location.pathname);
  window.scrollTo(0, 0);
  ask();
}

async function ask() {
  const mine = ++asking;
  let pause = 3000;
  try {
    const answer = await fetch(`data${location.search}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(`the monitor answered ${answer.status}`);
    const data = await answer.json();
    if (mine !== asking) return;
    if (data.open && data.shown.includes(data.open)) pause = 1000;
    const seen = JSON.stringify([data.runs, data.history]);
    if (seen !== ask.seen && !pointing) {
      ask.seen = seen;
      render(data);
    }
  } catch (error) {
    const page = document.getElementById("page");
    if (!page.dataset.drawn) page.replaceChildren(element("p", { class: "quiet" }, `The monitor does not answer: ${error.message}. Trying again.`));
  }
  if (mine === asking) setTimeout(() => { if (mine === asking) ask(); }, document.hidden ? 10000 : pause);
}

const embedded = JSON.parse(document.getElementById("data").textContent);
if (embedded) render(embedded);
else {
  window.addEventListener("popstate", () => { ask.seen = ""; ask(); });
  ask();
}
