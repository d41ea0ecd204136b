// The three images of a pair, two of them at a time with a slider between, zoomed and moved together.

const SIDES = [["ir", "infrared"], ["vis", "visible"], ["fused", "fused"]];
const stage = byId("stage");
let base = "";

const arrange = () => {
  const split = (Number(byId("viewer-slider").value) / 100) * stage.clientWidth;
  for (const end of ["left", "right"]) byId(`stage-${end}`).style.transform = view.transform();
  byId("stage-clip").style.clipPath = `inset(0 ${stage.clientWidth - split}px 0 0)`;
  byId("stage-line").style.left = `${split}px`;
  stage.classList.toggle("pixels", view.isLarge());
  byId("viewer-zoom").textContent = view.percent();
};
const view = zoomable(() => [stage], arrange);

const showSides = () => {
  for (const end of ["left", "right"]) {
    const side = byId(`viewer-${end}`).value;
    const [, name] = SIDES.find(([each]) => each === side);
    byId(`stage-${end}`).src = `${base}-${side}.jpg`;
    byId(`stage-${end}`).alt = `${name} image`;
    byId(`stage-${end}-name`).textContent = name;
  }
};

const openViewer = (of) => {
  base = of;
  view.width = 0;
  byId("viewer-left").value = "ir";
  byId("viewer-right").value = "fused";
  byId("viewer-slider").value = 50;
  showSides();
};

const connectViewer = () => {
  for (const end of ["left", "right"]) {
    fill(byId(`viewer-${end}`), SIDES.map(([side]) => side), SIDES.map(([, name]) => name));
    byId(`viewer-${end}`).addEventListener("change", showSides);
  }
  byId("stage-right").addEventListener("load", (event) => {
    if (view.width) return;
    [view.width, view.height] = [event.target.naturalWidth, event.target.naturalHeight];
    view.fit();
  });
  byId("viewer-slider").addEventListener("input", arrange);
  view.connectButtons({ in: "viewer-in", out: "viewer-out", fit: "viewer-fit", full: "viewer-full" });
  view.connect(stage);
};
