"use strict";

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
      return { name: group.name, group: run.group, repeat: group.runs > 1, x: run.series.t, y: pick(run.series, key) || [] };
    }).filter((line) => line.y.length);
    return lines.some((line) => line.y.some((value) => value)) ? overTime(`${unit}/${key}`, title, unit, lines, format, least) : null;
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
    costByVolume(data));
}

function runList(data) {
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "The runs" }, element("table", { class: "runs" },
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
    rows.length ? element("div", {}, button, element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Earlier runs" }, element("table", { class: "runs" },
      element("thead", {}, element("tr", {}, ["", "run", "queue", "started", "messages", "push", "bottleneck", "verdict"].map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, rows)))) : element("p", { class: "quiet" }, "None yet: start a publisher."));
}

// ---- the page ----

function render(data) {
  const page = document.getElementById("page");
  const opened = new Set([...page.querySelectorAll("details[open]")].map((one) => one.dataset.key));
  const held = document.activeElement;
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
    if (data.answer.length) parts.push(element("section", { class: "answer", "aria-label": "Which queue?" }, data.answer.map((line) => element("p", {}, line))));
    parts.push(element("div", { class: "cards" }, data.groups.map((group, number) => card(data, group, number))));
    if (data.groups.some((group) => group.local)) parts.push(element("p", { class: "quiet" }, data.notes[data.notes.length - 1]));
    parts.push(comparisonTable(data));
    const chart = (heading, text, ...body) => parts.push(element("section", {}, element("h2", {}, heading), text ? element("p", { class: "quiet" }, text) : null, legend(data), ...body));
    chart("Rate over time", "Messages a second through each stage, a point for each second, or each 120th of the time where that is longer: a shorter burst looks lower than it was; the table has its true rate.",
      panels(data, [["published", "Published"], ["received", "Received and handed over"], ["delivered", "Delivered"]], (series, key) => series.rates[key], "messages/s", "short"));
    chart("Depth over time", "What waits and what is in flight.",
      panels(data, [["queue", "In the queue"], ["celery", "In Celery"], ["dead_letters", "Dead letters"]], (series, key) => series.depths[key], "messages", "short"));
    const latency = latencies(data);
    if (latency) chart("Latencies", null, element("div", { class: "panels wide" }, latency));
    const roles = [...new Set(data.runs.flatMap((run) => Object.keys(run.series.cpu)))];
    const order = ["publisher", "subscriber", "worker", "endpoint"];
    roles.sort((one, other) => (order.indexOf(one) + 99) % 99 - (order.indexOf(other) + 99) % 99 || one.localeCompare(other));
    const named = { "queue (server)": "Redis, the queue", "broker (server)": "Redis, Celery's broker" };
    chart("CPU by role", "All processes of a role together; 100 % is one core.",
      panels(data, roles.map((role) => [role, named[role] || role[0].toUpperCase() + role.slice(1)]), (series, key) => series.cpu[key], "of a core", "percent", 0.05));
    chart("Cost", data.notes[0], costs(data));
    parts.push(element("section", {}, element("h2", {}, "The runs"), runList(data), settings(data)));
    for (const note of data.notes.slice(1)) parts.push(element("p", { class: "quiet" }, note));
  }
  parts.push(earlier(data));
  page.replaceChildren(...parts.filter(Boolean));
  for (const one of page.querySelectorAll("details")) one.open = opened.has(one.dataset.key);
  // A chart stays the same element, and so does what is held in it.
  if (held && held !== document.activeElement && held.isConnected) held.focus({ preventScroll: true });
  draw(!data.runs.some((run) => !run.ended_at)).then(() => { page.dataset.drawn = "yes"; });
}

let asking = 0;
let shown = JSON.parse(document.getElementById("data").textContent);
dark.addEventListener("change", () => { if (shown) render(shown); });

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
    if (seen !== ask.seen) {
      ask.seen = seen;
      shown = data;
      render(data);
    }
  } catch (error) {
    const page = document.getElementById("page");
    if (!shown) page.replaceChildren(element("p", { class: "quiet" }, `The monitor does not answer: ${error.message}. Trying again.`));
  }
  if (mine === asking) setTimeout(() => { if (mine === asking) ask(); }, document.hidden ? 10000 : pause);
}

if (shown) render(shown);
else {
  window.addEventListener("popstate", () => { ask.seen = ""; ask(); });
  ask();
}
