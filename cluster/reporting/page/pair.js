// The view of one pair: #pair=<pair_id>, a link that can be sent.

const describe = (at) => {
  const detail = data.details[at];
  const facts = [["size", `${number(data.pairs.height[at])} x ${number(data.pairs.width[at])} px (height x width)`]];
  for (const name of Object.keys(data.pairs.carried)) {
    const value = columns.get(name)(at);
    if (value !== null && value !== undefined) facts.push([name, typeof value === "number" ? number(value, 6) : value]);
  }
  if (detail) {
    const range = (side) => `${number(detail[`${side}_low`], 6)} to ${number(detail[`${side}_high`], 6)}`;
    facts.push(["infrared source", detail.ir_url], ["infrared range", range("ir")]);
    facts.push(["visible source", detail.vis_url], ["visible range", range("vis")]);
    if (detail.num_windows > 1) facts.push(["windows", number(detail.num_windows)]);
    for (const name of ["dtype", "grid", "crs", "source_note", "zarr_path"]) facts.push([name.replace("_", " "), detail[name]]);
    facts.push(["run", detail.run_id]);
  }
  return facts.filter(([, value]) => value !== undefined && value !== null && value !== "");
};

const showMetrics = (at) => {
  const headings = [{ name: "metric" }, { name: "value", right: true }, { name: "percentile", right: true }, { name: "in the archive" }];
  const rows = data.measures.map((name) => {
    const value = data.pairs.measures[name][at];
    const share = percentile(name, value);
    const meter = element("meter", {
      min: 0, max: 100, value: share ?? 0, "aria-label": `percentile of ${name}`,
    });
    return [name, number(value), share === null ? "–" : number(Math.round(share)), meter];
  });
  table(byId("pair-metrics"), headings, rows);
};

const showImages = (at) => {
  const picture = data.thumbnails[at] ?? "";
  const reduction = data.reductions[at] ?? 0;
  byId("viewer").hidden = !reduction;
  byId("pair-strip").hidden = Boolean(reduction) || !picture;
  if (reduction) {
    openViewer(`pictures/${picture.replace(/\.jpg$/, "")}`);
    byId("viewer-reduced").textContent =
      reduction > 1 ? `Shown at 1/${reduction} of the full size.` : "Shown at full resolution.";
  } else if (picture) {
    byId("pair-strip").src = `pictures/${picture}`;
    byId("pair-strip").alt = "Infrared, visible and fused image of the pair";
  }
  const heat = byId("pair-heat");
  heat.hidden = !data.heat_maps[at];
  if (!heat.hidden) heat.querySelector("img").src = `pictures/${picture.replace(/\.jpg$/, "-csab.jpg")}`;
  const notes = [];
  if (!picture) notes.push("This report has no image of the pair.");
  else if (!reduction) notes.push("This report has only a small image of the pair.");
  if (data.problems[at]) notes.push(`${shown(data.problems[at])}.`);
  else if (!reduction) {
    const name = data.pairs.pair_id[at].replaceAll("'", "''");
    notes.push(`To have it at full resolution: jobs/report.py --output OUT --where "pair_id = '${shown(name)}'"`);
  }
  byId("pair-note").textContent = notes.join(" ");
  byId("pair-note").hidden = !notes.length;
};

const showPair = (name) => {
  const at = placeOf.get(name);
  byId("pair-title").replaceChildren(element("bdi", {}, shown(name)));
  document.title = `${shown(name)} · fusion report`;
  if (at === undefined) {
    byId("pair-note").textContent = numShown < data.num_pairs
      ? `This page holds ${number(numShown)} of ${number(data.num_pairs)} pairs, and not this one. A report made with --where has it.`
      : "No fused pair has this name.";
    byId("pair-note").hidden = false;
    for (const id of ["viewer", "pair-strip", "pair-heat"]) byId(id).hidden = true;
    for (const id of ["pair-metrics", "pair-facts"]) byId(id).replaceChildren();
  } else {
    showImages(at);
    showMetrics(at);
    const facts = describe(at).flatMap(([term, value]) => [element("dt", {}, shown(term)), element("dd", {}, shown(value))]);
    byId("pair-facts").replaceChildren(...facts);
  }
  byId("pair-copied").textContent = "";
  linkNeighbours(at);
};

const copyLink = async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    byId("pair-copied").textContent = "Copied.";
  } catch {
    byId("pair-copied").textContent = "Copy the address of this page: it names the pair.";
  }
};
