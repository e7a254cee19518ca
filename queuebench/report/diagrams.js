// ---- figures over settings: what diagrams.py put into the page ----

function curvesSpec(data) {
  const x = data.scale === "ordinal"
    ? { field: "at", type: "ordinal", scale: { domain: data.ats }, axis: { title: data.setting, labelAngle: 0 } }
    : {
      field: "at", type: "quantitative", scale: { type: data.scale, base: data.scale === "log" ? 2 : undefined, zero: data.scale === "log" ? undefined : false, nice: false, domain: [data.ats[0], data.ats[data.ats.length - 1]], padding: 12 },
      axis: axis("short", { title: data.setting, values: data.ats, tickCount: data.ats.length }),
    };
  const values = data.rows.flatMap((row) => (row.middle === undefined ? [] : [row.low, row.high]));
  const up = data.logarithmic ? decades(values) : { scale: { zero: true, nice: true }, ticks: { tickCount: 6 } };
  const format = data.logarithmic && data.format === "span" ? "decade" : data.format;
  const y = (field) => ({ field, type: "quantitative", scale: up.scale, axis: axis(format, { grid: true, ...up.ticks }) });
  const names = data.lines.map((line) => line.name), range = data.lines.map((line) => shades(line.colour));
  const color = { field: "name", type: "nominal", scale: { domain: names, range } };
  const invalid = "break-paths-filter-domains";
  // Between the values of a setting that are no numbers there is nothing that a line could mean.
  const joined = data.scale === "ordinal" ? [] : [
    { mark: { type: "area", opacity: 0.18, aria: false, invalid }, encoding: { y: y("low"), y2: { field: "high" } } },
    { mark: { type: "line", strokeWidth: 2, aria: false, invalid }, encoding: { y: y("middle") } },
  ];
  return {
    height: 260,
    encoding: { x, color, ...(data.scale === "ordinal" ? { xOffset: { field: "name", sort: names } } : {}) },
    layer: [
      ...joined,
      { mark: { type: "rule", strokeWidth: 1.5, opacity: 0.7, aria: false }, encoding: { y: y("low"), y2: { field: "high" } } },
      {
        mark: { type: "point", filled: true, size: 70, opacity: 1, aria: false },
        encoding: {
          y: y("middle"),
          tooltip: [{ field: "name", title: "of" }, { field: "at", title: data.setting }, told("middle", "median", data.format), told("low", "lowest", data.format), told("high", "highest", data.format), { field: "repeats", title: "repeats" }],
        },
      },
      {
        transform: [{ filter: "!isValid(datum.middle)" }],
        mark: { type: "point", shape: "cross", angle: 45, filled: true, size: 110, opacity: 1, yOffset: -9, aria: false },
        encoding: {
          y: { value: "height" }, color: { field: "name", type: "nominal", scale: { domain: names, range } },
          tooltip: [{ field: "name", title: "of" }, { field: "at", title: data.setting }, { field: "note", title: "no figure" }],
        },
      },
    ],
  };
}

function heatSpec(data) {
  const x = { field: "across", type: "ordinal", scale: { domain: data.columns, padding: 0.04 }, axis: { title: data.across, labelAngle: 0, domain: false, ticks: false } };
  const y = { field: "down", type: "ordinal", scale: { domain: [...data.lines].reverse(), padding: 0.04 }, axis: { title: data.down, domain: false, ticks: false } };
  const known = data.rows.filter((row) => row.middle !== undefined);
  const values = known.map((row) => row.middle), scaled = data.logarithmic ? Math.log : (value) => value;
  const low = scaled(Math.min(...values)), high = scaled(Math.max(...values));
  // How far between lowest and highest: what is written on a square stands out from it.
  for (const row of known) row.heat = high > low ? (scaled(row.middle) - low) / (high - low) : 0.5;
  const tip = [{ field: "down", title: data.down }, { field: "across", title: data.across }];
  const rowHeight = Math.max(34, Math.min(60, 300 / data.lines.length));
  return {
    height: rowHeight * data.lines.length,
    encoding: { x, y },
    layer: [
      {
        transform: [{ filter: "!isValid(datum.heat)" }], mark: { type: "rect", color: shade("grid"), aria: false },
        encoding: { tooltip: [...tip, { field: "note", title: "why" }] },
      },
      {
        transform: [{ filter: "isValid(datum.heat)" }], mark: { type: "rect", aria: false },
        encoding: {
          color: { field: "heat", type: "quantitative", scale: { domain: [0, 1], range: [shade("heat"), shades(data.colour)], interpolate: "rgb" }, legend: null },
          tooltip: [...tip, told("middle", "median", data.format), told("low", "lowest", data.format), told("high", "highest", data.format), { field: "repeats", title: "repeats" }],
        },
      },
      {
        // Left out where squares are too narrow for it: tool tips and the table have it.
        mark: { type: "text", aria: false, fontSize: 12, opacity: { expr: `width / ${data.columns.length} < 40 ? 0 : 1` } },
        encoding: {
          text: { field: "label" },
          color: { condition: { test: "isValid(datum.heat) && datum.heat > 0.55", value: shade("on-heat") }, value: shade("ink") },
        },
      },
    ],
  };
}

function showDiagrams() {
  document.querySelectorAll(".diagram").forEach((section, number) => {
    const data = JSON.parse(section.querySelector(".diagram-data").textContent);
    const isCurves = data.kind === "curves";
    for (const row of data.rows) {
      if (isCurves) row.name = data.lines[row.line].name;
      else row.label = row.middle === undefined ? "–" : formats[data.format](row.middle);
    }
    if (!data.rows.some((row) => row.middle !== undefined)) {
      section.querySelector(".place").replaceChildren(element("h2", {}, data.title), element("p", { class: "quiet" }, "No run counts: the table says why."));
      return;
    }
    const spec = isCurves ? curvesSpec(data) : heatSpec(data);
    section.querySelector(".place").replaceChildren(chart(`diagram ${number}`, data.title, data.unit, `${data.title}. ${data.said}`, spec, data.rows, "h2"));
  });
  draw(true).then(() => { document.getElementById("page").dataset.drawn = "yes"; });
}

dark.addEventListener("change", showDiagrams);
showDiagrams();
