// The charts: Bokeh's figures get their data and the page's colours here.

const charts = new Map();
const source = (name) => charts.get(name);
const dark = matchMedia("(prefers-color-scheme: dark)");

const paint = () => {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  for (const figure of charts.get("figures")) {
    for (const axis of [...figure.below, ...figure.left]) {
      axis.setv({
        axis_label_text_color: colour("quiet"), major_label_text_color: colour("quiet"),
        axis_line_color: colour("line"), major_tick_line_color: colour("line"), minor_tick_line_color: null,
        axis_label_text_font_style: "normal", major_label_text_font_size: "12px", axis_label_text_font_size: "13px",
      });
    }
    for (const grid of figure.center.filter((each) => "grid_line_color" in each)) grid.setv({ grid_line_color: colour("line"), grid_line_alpha: 0.5 });
    for (const drawn of figure.renderers.filter((each) => each.name === "glyph")) {
      for (const glyph of [drawn.glyph, drawn.nonselection_glyph, drawn.selection_glyph]) {
        if (!glyph || typeof glyph.setv !== "function") continue;
        if (glyph.fill_color !== undefined) glyph.setv({ fill_color: { value: colour("accent") } });
        if (glyph.line_color !== undefined) glyph.setv({ line_color: { value: colour("accent") } });
      }
    }
  }
};

const drawCharts = async () => {
  charts.set("figures", []);
  for (const [target, item] of Object.entries(data.charts)) {
    if (!byId(target)) continue;
    const known = new Set(Bokeh.documents);
    await Bokeh.embed.embed_item(item, target);
    const [made] = Bokeh.documents.filter((each) => !known.has(each));
    for (const root of made.roots()) {
      charts.get("figures").push(root);
      charts.set(target, root);
      for (const drawn of root.renderers) charts.set(drawn.data_source.name, drawn.data_source);
    }
  }
  dark.addEventListener("change", paint);
  paint();
};

const drawRuns = () => {
  if (!source("rates")) return;
  const timed = data.runs.filter((run) => run.rate !== null);
  source("rates").data = { x: timed.map((run) => run.began), y: timed.map((run) => run.rate) };
  source("durations").data = { x: data.runs.map((run) => run.began), y: data.runs.map((run) => run.seconds / 60) };
};

// The outline of a histogram, for one value of a group.
const outlineOf = (edges, shares) => {
  const xs = [edges[0]];
  const ys = [0];
  shares.forEach((share, bin) => {
    xs.push(edges[bin], edges[bin + 1]);
    ys.push(share, share);
  });
  return [[...xs, edges[edges.length - 1]], [...ys, 0]];
};

const drawDistribution = () => {
  const name = byId("distribution-metric").value;
  const group = data.groups[Number(byId("distribution-group").value)];
  if (!group || !data.edges[name]) return;
  const edges = data.edges[name];
  const sharesOf = ([total, , counts]) => counts.map((count) => (100 * count) / Math.max(total, 1));
  const [all] = data.groups[0].rows[name];
  source("bars").data = { left: edges.slice(0, -1), right: edges.slice(1), top: sharesOf(all) };
  const rows = group.rows[name].map((row, place) => ({ row, place })).filter(({ row }) => row[0]);
  const isParted = group !== data.groups[0];
  const lines = isParted ? rows.map(({ row }) => outlineOf(edges, sharesOf(row))) : [];
  source("lines").data = {
    xs: lines.map(([xs]) => xs), ys: lines.map(([, ys]) => ys),
    colour: isParted ? rows.map(({ place }) => data.colours[place % data.colours.length]) : [],
  };
  charts.get("chart-distribution").below[0].axis_label = name;
  const quantile = (share) => number(data.quantiles[name][Math.round(share * (data.quantiles[name].length - 1))]);
  const named = ({ row, place }) => {
    const label = element("bdi", { class: "name" }, shown(group.values[place] || "(none)"));
    if (!isParted) return [label, number(row[0]), number(row[1]), quantile(0.05), quantile(0.5), quantile(0.95)];
    const swatch = element("span", { class: "swatch" });
    swatch.style.background = data.colours[place % data.colours.length];
    return [element("span", {}, swatch, label), number(row[0]), number(row[1])];
  };
  const headings = [{ name: group.name || "pairs" }, { name: "number", right: true }, { name: "mean", right: true }];
  if (!isParted) headings.push(...["5 %", "median", "95 %"].map((each) => ({ name: each, right: true })));
  table(byId("distribution-table"), headings, rows.map(named));
};

const drawScatter = () => {
  const [x, y] = [byId("scatter-x").value, byId("scatter-y").value];
  const [xs, ys] = [data.pairs.measures[x] ?? [], data.pairs.measures[y] ?? []];
  const points = source("points");
  points.selected.indices = [];
  points.data = { x: xs.map((value) => value ?? NaN), y: ys.map((value) => value ?? NaN) };
  const figure = charts.get("chart-scatter");
  figure.below[0].axis_label = x;
  figure.left[0].axis_label = y;
  document.querySelectorAll(".axis-x").forEach((each) => { each.textContent = x; });
  document.querySelectorAll(".axis-y").forEach((each) => { each.textContent = y; });
};

const drawMap = () => {
  const outlines = source("outlines");
  if (!outlines || !data.outlines.length) return;
  outlines.data = {
    xs: data.outlines.map((each) => each.xs), ys: data.outlines.map((each) => each.ys),
    pair: data.outlines.map((each) => shown(data.pairs.pair_id[each.place])),
  };
  outlines.selected.change.connect(() => {
    const [chosen] = outlines.selected.indices;
    outlines.selected.setv({ indices: [] }, { silent: true });
    if (chosen !== undefined) location.hash = linkOf(data.outlines[chosen].place);
  });
  const figure = charts.get("chart-map");
  const zoom = (factor) => {
    for (const range of [figure.x_range, figure.y_range]) {
      const [middle, half] = [(range.start + range.end) / 2, ((range.end - range.start) / 2) * factor];
      range.setv({ start: middle - half, end: middle + half });
    }
  };
  byId("map-in").addEventListener("click", () => zoom(0.5));
  byId("map-out").addEventListener("click", () => zoom(2));
  byId("map-all").addEventListener("click", () => {
    const [xs, ys] = [data.outlines.flatMap((each) => each.xs), data.outlines.flatMap((each) => each.ys)];
    for (const [range, values] of [[figure.x_range, xs], [figure.y_range, ys]]) {
      const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
      range.setv({ start: low - (high - low) * 0.1 - 10, end: high + (high - low) * 0.1 + 10 });
    }
  });
};
