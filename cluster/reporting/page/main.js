// What happens first.

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
