// Methods side by side: pairs where they differ most, and the images of one pair, zoomed together.

const SOURCES = [["ir", "infrared"], ["vis", "visible"]];
const pictureOf = (name) => `pictures/${name}`;

const showDifferent = () => {
  const by = byId("different-by").value;
  const order = [...data.pairs.pair_id.keys()].sort((a, b) => data.differences[by][b] - data.differences[by][a] || a - b);
  const cards = order.map((place) => {
    const name = shown(data.pairs.pair_id[place]);
    const pictures = SOURCES.map(([side]) => data.images[place][side]).filter(Boolean);
    const images = pictures.map((file) => element("img", { src: pictureOf(file), loading: "lazy", alt: "" }));
    const strip = images.length ? element("div", { class: "strip" }, ...images) : element("div", { class: "none" }, "no image");
    const value = element("span", {}, `${number(data.differences[by][place], 3)} apart`);
    const caption = element("div", { class: "caption" }, element("bdi", { class: "name" }, name), value);
    return element("li", {}, element("a", { href: linkOf(place) }, strip, caption));
  });
  byId("gallery").replaceChildren(...cards);
};

// Images of the pair that is open: each in a box of its own, all under one view.
let boxes = [];
const arrange = () => {
  for (const box of boxes) {
    box.firstChild.style.transform = view.transform();
    box.classList.toggle("pixels", view.isLarge());
  }
  byId("viewer-zoom").textContent = view.percent();
};
const view = zoomable(() => boxes, arrange);

const boxOf = (name, file) => {
  const image = element("img", { src: pictureOf(file), alt: `${shown(name)}: image of the pair`, draggable: "false" });
  const box = element("div", { class: "stage", tabindex: "0", role: "group",
    "aria-label": `${shown(name)}: arrow keys move, plus and minus zoom` }, image);
  box.append(element("span", { class: "tag" }, shown(name)));
  view.connect(box);
  image.addEventListener("load", () => {
    if (view.width) arrange();
    else {
      [view.width, view.height] = [image.naturalWidth, image.naturalHeight];
      view.fit();
    }
  });
  return box;
};

const chosen = new Set(data.methods.slice(0, data.most_shown));

const showBoxes = (place) => {
  const files = data.images[place];
  const names = [...SOURCES, ...data.methods.filter((name) => chosen.has(name)).map((name) => [name, name])];
  boxes = names.filter(([key]) => files[key]).map(([key, name]) => boxOf(name, files[key]));
  byId("stages").replaceChildren(...boxes);
  arrange();
};

const showChoice = (place) => {
  const isThere = (name) => Boolean(data.images[place][name]);
  const labels = data.methods.map((name) => {
    const input = element("input", { type: "checkbox" });
    input.checked = chosen.has(name) && isThere(name);
    input.addEventListener("change", () => {
      if (input.checked) chosen.add(name);
      else chosen.delete(name);
      allow();
      showBoxes(place);
    });
    return element("label", {}, input, element("bdi", {}, shown(name)));
  });
  const allow = () => labels.forEach((label, at) => {
    const input = label.firstChild;
    input.disabled = !isThere(data.methods[at]) || (!input.checked && chosen.size >= data.most_shown);
  });
  allow();
  byId("pair-methods").replaceChildren(byId("pair-methods").firstElementChild, ...labels);
};

const showScores = (place) => {
  const scores = data.scores[place];
  const best = data.metrics.map((_, at) => Math.max(...scores.filter(Boolean).map((row) => row[at] ?? -Infinity)));
  const rows = data.methods.map((name, method) => {
    const cells = data.metrics.map((_, at) => {
      const value = scores[method]?.[at] ?? null;
      return value !== null && value === best[at] ? element("b", {}, number(value)) : number(value);
    });
    return [element("bdi", {}, shown(name)), ...cells];
  });
  table(byId("pair-scores"), [{ name: "method" }, ...data.metrics.map((name) => ({ name, right: true }))], rows);
};

const showPair = (name) => {
  const place = placeOf.get(name);
  const isHere = place !== undefined;
  byId("pair-title").replaceChildren(element("bdi", {}, shown(name)));
  document.title = `${shown(name)} · fusion methods`;
  const note = isHere ? data.problems[place] : "This page has no images of the pair: it holds those where methods differ most.";
  byId("pair-note").textContent = shown(note);
  byId("pair-note").hidden = !note;
  view.width = 0;
  byId("pair-methods").hidden = !isHere;
  if (isHere) {
    showChoice(place);
    showBoxes(place);
    showScores(place);
  } else for (const id of ["stages", "pair-scores"]) byId(id).replaceChildren();
  linkNeighbours(place);
};

view.connectButtons({ in: "viewer-in", out: "viewer-out", fit: "viewer-fit", full: "viewer-full" });
if (numShown) {
  fill(byId("different-by"), Object.keys(data.differences));
  byId("different-by").addEventListener("change", showDifferent);
  showDifferent();
}
addEventListener("hashchange", follow);
follow();
document.documentElement.dataset.ready = "true";
