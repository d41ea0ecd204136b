// The three images of a pair, two of them at a time with a slider between, zoomed and moved together.

const SIDES = [["ir", "infrared"], ["vis", "visible"], ["fused", "fused"]];
const stage = byId("stage");
const view = { x: 0, y: 0, scale: 1, width: 0, height: 0, base: "" };

const arrange = () => {
  const split = (Number(byId("viewer-slider").value) / 100) * stage.clientWidth;
  const transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  byId("stage-left").style.transform = transform;
  byId("stage-right").style.transform = transform;
  byId("stage-clip").style.clipPath = `inset(0 ${stage.clientWidth - split}px 0 0)`;
  byId("stage-line").style.left = `${split}px`;
  stage.classList.toggle("pixels", view.scale * devicePixelRatio > 2);
  byId("viewer-zoom").textContent = view.width ? `${Math.round(100 * view.scale)} %` : "";
};

const fitStage = () => {
  if (!view.width) return;
  view.scale = Math.min(stage.clientWidth / view.width, stage.clientHeight / view.height);
  view.x = (stage.clientWidth - view.width * view.scale) / 2;
  view.y = (stage.clientHeight - view.height * view.scale) / 2;
  arrange();
};

const zoomTo = (scale, x = stage.clientWidth / 2, y = stage.clientHeight / 2) => {
  const next = Math.min(32, Math.max(0.02, scale));
  view.x = x - ((x - view.x) * next) / view.scale;
  view.y = y - ((y - view.y) * next) / view.scale;
  view.scale = next;
  arrange();
};

const showSides = () => {
  for (const end of ["left", "right"]) {
    const side = byId(`viewer-${end}`).value;
    const [, name] = SIDES.find(([each]) => each === side);
    byId(`stage-${end}`).src = `${view.base}-${side}.jpg`;
    byId(`stage-${end}`).alt = `${name} image`;
    byId(`stage-${end}-name`).textContent = name;
  }
};

const openViewer = (base) => {
  view.base = base;
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
    fitStage();
  });
  byId("viewer-slider").addEventListener("input", arrange);
  byId("viewer-in").addEventListener("click", () => zoomTo(view.scale * 1.5));
  byId("viewer-out").addEventListener("click", () => zoomTo(view.scale / 1.5));
  byId("viewer-fit").addEventListener("click", fitStage);
  byId("viewer-full").addEventListener("click", () => zoomTo(1));
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoomTo(view.scale * Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (event.key in moves) {
      view.x += moves[event.key][0];
      view.y += moves[event.key][1];
      arrange();
    } else if (event.key === "+" || event.key === "=") zoomTo(view.scale * 1.25);
    else if (event.key === "-") zoomTo(view.scale / 1.25);
    else if (event.key === "0") fitStage();
    else return;
    event.preventDefault();
  });
  const fingers = new Map();
  stage.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, event);
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const others = [...fingers.values()].filter((each) => each.pointerId !== event.pointerId);
    if (others.length) {
      const distance = (each) => Math.hypot(each.clientX - others[0].clientX, each.clientY - others[0].clientY);
      const box = stage.getBoundingClientRect();
      zoomTo((view.scale * distance(event)) / Math.max(1, distance(before)),
        (event.clientX + others[0].clientX) / 2 - box.left, (event.clientY + others[0].clientY) / 2 - box.top);
    } else {
      view.x += event.clientX - before.clientX;
      view.y += event.clientY - before.clientY;
      arrange();
    }
    fingers.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  addEventListener("resize", fitStage);
};
