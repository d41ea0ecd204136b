// Zooming and moving images of one size together, in one box or in several of equal size.

// boxes: the elements that hold the images; arrange: called after each change of the view that is returned.
const zoomable = (boxes, arrange) => {
  const view = { x: 0, y: 0, scale: 1, width: 0, height: 0 };
  view.transform = () => `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  view.isLarge = () => view.scale * devicePixelRatio > 2;
  view.percent = () => (view.width ? `${Math.round(100 * view.scale)} %` : "");

  view.fit = () => {
    const [box] = boxes();
    if (!view.width || !box) return;
    view.scale = Math.min(box.clientWidth / view.width, box.clientHeight / view.height);
    view.x = (box.clientWidth - view.width * view.scale) / 2;
    view.y = (box.clientHeight - view.height * view.scale) / 2;
    arrange();
  };

  view.zoomTo = (scale, x = boxes()[0].clientWidth / 2, y = boxes()[0].clientHeight / 2) => {
    const next = Math.min(32, Math.max(0.02, scale));
    view.x = x - ((x - view.x) * next) / view.scale;
    view.y = y - ((y - view.y) * next) / view.scale;
    view.scale = next;
    arrange();
  };

  const move = (x, y) => {
    view.x += x;
    view.y += y;
    arrange();
  };

  view.connect = (box) => {
    box.addEventListener("wheel", (event) => {
      event.preventDefault();
      const { left, top } = box.getBoundingClientRect();
      view.zoomTo(view.scale * Math.exp(-event.deltaY / 400), event.clientX - left, event.clientY - top);
    }, { passive: false });
    box.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
      if (event.key in moves) move(...moves[event.key]);
      else if (event.key === "+" || event.key === "=") view.zoomTo(view.scale * 1.25);
      else if (event.key === "-") view.zoomTo(view.scale / 1.25);
      else if (event.key === "0") view.fit();
      else return;
      event.preventDefault();
    });
    const fingers = new Map();
    box.addEventListener("pointerdown", (event) => {
      fingers.set(event.pointerId, event);
      box.setPointerCapture(event.pointerId);
    });
    box.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const others = [...fingers.values()].filter((each) => each.pointerId !== event.pointerId);
      if (others.length) {
        const distance = (each) => Math.hypot(each.clientX - others[0].clientX, each.clientY - others[0].clientY);
        const { left, top } = box.getBoundingClientRect();
        view.zoomTo((view.scale * distance(event)) / Math.max(1, distance(before)),
          (event.clientX + others[0].clientX) / 2 - left, (event.clientY + others[0].clientY) / 2 - top);
      } else {
        move(event.clientX - before.clientX, event.clientY - before.clientY);
      }
      fingers.set(event.pointerId, event);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      box.addEventListener(end, (event) => fingers.delete(event.pointerId));
    }
  };

  view.connectButtons = (names) => {
    byId(names.in).addEventListener("click", () => view.zoomTo(view.scale * 1.5));
    byId(names.out).addEventListener("click", () => view.zoomTo(view.scale / 1.5));
    byId(names.fit).addEventListener("click", view.fit);
    byId(names.full).addEventListener("click", () => view.zoomTo(1));
    addEventListener("resize", view.fit);
  };
  return view;
};
