// What happens first, and what follows the address.

const title = document.title;
let back = null;

const follow = () => {
  const name = pairOfAddress();
  const wasPair = !byId("pair").hidden;
  if (name !== null && !wasPair) back = scrollY;
  byId("report").hidden = name !== null;
  byId("pair").hidden = name === null;
  if (name !== null) {
    showPair(name);
    scrollTo({ top: 0, behavior: "instant" });
    byId("pair-title").focus({ preventScroll: true });
    view.fit();
  } else {
    document.title = title;
    if (wasPair) {
      const target = location.hash.length > 1 && location.hash !== "#report" ? byId(location.hash.slice(1)) : null;
      if (target) target.scrollIntoView();
      else if (back !== null) scrollTo({ top: back, behavior: "instant" });
    }
  }
};

const start = async () => {
  const measures = data.measures;
  for (const id of ["distribution-metric", "scatter-x", "scatter-y"]) fill(byId(id), measures);
  fill(byId("extremes-metric"), measures.filter((name) => (data.worst[name] ?? []).length));
  fill(byId("search-sort"), [...columns.keys()]);
  fill(byId("distribution-group"), data.groups.map((_, place) => String(place)), data.groups.map((each) => each.name || "nothing"));
  if (measures.includes("VIF")) for (const id of ["distribution-metric", "extremes-metric", "scatter-x"]) byId(id).value = "VIF";
  byId("scatter-y").value = measures.find((name) => name === "SCD") ?? measures[1] ?? "";
  byId("search-columns").textContent = [...columns.keys()]
    .map((name) => (/^[A-Za-z_]\w*$/.test(name) ? name : `"${shown(name.replaceAll('"', '""'))}"`)).join(", ");

  connectViewer();
  byId("pair-copy").addEventListener("click", copyLink);
  byId("extremes-metric").addEventListener("change", showExtremes);
  document.querySelectorAll("input[name=end]").forEach((input) => input.addEventListener("change", showExtremes));
  byId("search-form").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["search-text", "search-condition", "search-sort"]) byId(id).addEventListener("input", search);
  showExtremes();
  search();

  await drawCharts(); // before the report may be hidden: a chart takes its size from its element
  addEventListener("hashchange", follow);
  follow();
  drawRuns();
  for (const id of ["distribution-metric", "distribution-group"]) byId(id).addEventListener("change", drawDistribution);
  drawDistribution();
  drawScatter();
  connectBrush();
  drawMap();
  document.documentElement.dataset.ready = "true";
};

start();
