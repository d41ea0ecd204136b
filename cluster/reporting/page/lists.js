// Lists of pairs: the worst and best, those in the brush, those that a search finds.

const MOST_LISTED = 200;

const listPairs = (target, places, names) => {
  const headings = [{ name: "pair_id" }, ...names.map((name) => ({ name, right: true }))];
  const cells = (name, place) => {
    const value = columns.get(name)(place);
    return typeof value === "number" || value === null || value === undefined ? number(value) : shown(value);
  };
  const rows = places.slice(0, MOST_LISTED).map((place) => [pairLink(place), ...names.map((name) => cells(name, place))]);
  if (rows.length) table(target, headings, rows);
  else target.replaceChildren();
};

const counted = (total, what) => {
  const listed = total > MOST_LISTED ? `, the first ${MOST_LISTED} of them listed` : "";
  return `${number(total)} ${total === 1 ? "pair" : "pairs"} ${what}${listed}`;
};

const showExtremes = () => {
  const name = byId("extremes-metric").value;
  const end = document.querySelector("input[name=end]:checked").value;
  const cards = (data[end][name] ?? []).map((place) => {
    const picture = data.thumbnails[place];
    const title = shown(data.pairs.pair_id[place]);
    const image = picture
      ? element("img", { src: `pictures/${picture}`, loading: "lazy", alt: `Infrared, visible and fused image of ${title}` })
      : element("div", { class: "none" }, "no image in this report");
    const value = element("span", {}, `${name} ${number(data.pairs.measures[name][place])}`);
    const caption = element("div", { class: "caption" }, element("bdi", { class: "name" }, title), value);
    return element("li", {}, element("a", { href: linkOf(place) }, image, caption));
  });
  byId("gallery").replaceChildren(...cards);
};

const brushInputs = ["x0", "x1", "y0", "y1"].map((name) => byId(`brush-${name}`));

const listBrushed = () => {
  const names = [...new Set([byId("scatter-x").value, byId("scatter-y").value])];
  const chosen = [...source("points").selected.indices].sort((a, b) => a - b);
  const isOpen = brushInputs.every((input) => input.value === "");
  byId("brush-status").textContent = chosen.length || !isOpen ? counted(chosen.length, "in the brush") : "";
  listPairs(byId("brush-table"), chosen, names);
};

const brushByLimits = () => {
  const [x0, x1, y0, y1] = brushInputs.map((input) => (input.value === "" ? null : Number(input.value)));
  const { x, y } = source("points").data;
  const holds = (value, low, high) =>
    !Number.isNaN(value) && (low === null || value >= low) && (high === null || value <= high);
  const isOpen = [x0, x1, y0, y1].every((limit) => limit === null);
  const inside = isOpen ? [] : [...x.keys()].filter((place) => holds(x[place], x0, x1) && holds(y[place], y0, y1));
  source("points").selected.indices = inside;
  listBrushed(); // also where no pair is inside, and so nothing has changed
};

const connectBrush = () => {
  const points = source("points");
  const figure = charts.get("chart-scatter");
  points.selected.change.connect(listBrushed);
  figure.on_event("selectiongeometry", (event) => {
    const { type, x0, x1, y0, y1 } = event.geometry;
    if (type === "rect" && event.final) {
      [x0, x1, y0, y1].forEach((limit, place) => { brushInputs[place].value = Number(limit.toPrecision(5)); });
    }
  });
  figure.on_event("tap", () => {
    if (points.selected.indices.length === 1) location.hash = linkOf(points.selected.indices[0]);
  });
  for (const input of brushInputs) input.addEventListener("change", brushByLimits);
  const clear = () => {
    for (const input of brushInputs) input.value = "";
    brushByLimits();
  };
  byId("brush-clear").addEventListener("click", clear);
  for (const id of ["scatter-x", "scatter-y"]) {
    byId(id).addEventListener("change", () => {
      drawScatter();
      clear();
    });
  }
};

const search = () => {
  const text = byId("search-text").value.toLowerCase();
  const written = byId("search-condition").value.trim();
  const input = byId("search-condition");
  let meets = () => true;
  try {
    if (written) meets = parseCondition(written);
    input.removeAttribute("aria-invalid");
  } catch (error) {
    input.setAttribute("aria-invalid", "true");
    byId("search-status").textContent = `Condition: ${error.message}.`;
    return;
  }
  const sort = byId("search-sort").value;
  const found = [...Array(numShown).keys()]
    .filter((place) => data.pairs.pair_id[place].toLowerCase().includes(text) && meets(place));
  const key = columns.get(sort);
  found.sort((a, b) => {
    const [left, right] = [key(a) ?? null, key(b) ?? null];
    if (left === null || right === null) return (left === null) - (right === null) || a - b;
    return left < right ? -1 : left > right ? 1 : a - b;
  });
  const isSample = numShown < data.num_pairs;
  byId("search-status").textContent =
    counted(found.length, isSample ? `of the ${number(numShown)} on this page` : "found");
  const names = [...new Set([sort, ...data.measures.slice(0, 4), ...Object.keys(data.pairs.carried).slice(0, 3)])];
  listPairs(byId("search-table"), found, names.filter((name) => name !== "pair_id"));
  const hint = byId("search-export");
  hint.replaceChildren();
  if (written && isSample) {
    const command = `python jobs/report.py --output OUT --where '${written.replaceAll("'", "'\\''")}'`;
    hint.append("To look at such pairs of the whole archive: ", element("code", {}, shown(command)));
  }
};
