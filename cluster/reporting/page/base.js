// What every other part uses: the data, elements, and text made fit to be shown.

const data = JSON.parse(document.getElementById("data").textContent);
const numShown = data.pairs.pair_id.length;
const byId = (id) => document.getElementById(id);

// Names come from an archive: letters that steer a terminal, or turn the direction of reading, are shown as ?.
const shown = (text) => String(text).replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cn}\u2028\u2029]/gu, "?");

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children); // a text is appended as text, never parsed
  return made;
};

const number = (value, digits = 4) => {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value) || Math.abs(value) >= 1e4) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(digits)));
};

const fill = (select, names, labels = names) => {
  select.replaceChildren(...names.map((name, place) => element("option", { value: name }, shown(labels[place]))));
};

const table = (target, headings, rows) => {
  const cell = (value, place, isHeading) => {
    const right = headings[place].right ? { class: "number" } : {};
    const made = element(place ? "td" : "th", place ? right : { scope: "row" });
    if (isHeading) return element("th", { scope: "col", ...right }, value);
    made.append(value);
    return made;
  };
  const head = element("tr", {}, ...headings.map((heading, place) => cell(shown(heading.name), place, true)));
  const body = rows.map((row) => element("tr", {}, ...row.map((value, place) => cell(value, place, false))));
  target.replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
};

// Pairs, by their place on the page.
const placeOf = new Map(data.pairs.pair_id.map((name, place) => [name, place]));
const linkOf = (place) => `#pair=${encodeURIComponent(data.pairs.pair_id[place])}`;
const pairLink = (place) =>
  element("a", { href: linkOf(place) }, element("bdi", { class: "name" }, shown(data.pairs.pair_id[place])));

// The pair that the address names, as #pair=<pair_id>; null for none.
const pairOfAddress = () => {
  const match = /^#pair=(.*)$/s.exec(location.hash);
  if (!match) return null;
  try {
    return decodeURIComponent(match[1]);
  } catch {
    return match[1];
  }
};

// Columns that a condition may name: each gives the value of a pair, a number, a text or null.
const columns = new Map([
  ["pair_id", (place) => data.pairs.pair_id[place]],
  ["height", (place) => data.pairs.height[place]],
  ["width", (place) => data.pairs.width[place]],
]);
for (const [name, values] of Object.entries(data.pairs.measures)) columns.set(name, (place) => values[place]);
for (const [name, carried] of Object.entries(data.pairs.carried)) {
  columns.set(name, carried.numbers
    ? (place) => carried.numbers[place]
    : (place) => carried.values[carried.codes[place]]);
}

// Share of the archive, from 0 to 100, whose value of a measure is below the given one.
const percentile = (name, value) => {
  const steps = data.quantiles[name];
  if (!steps || value === null || value === undefined) return null;
  const below = steps.filter((step) => step < value).length;
  const upTo = steps.filter((step) => step <= value).length;
  if (upTo > below) return (100 * (below + upTo - 1)) / 2 / (steps.length - 1);
  if (!below || below === steps.length) return below ? 100 : 0;
  const share = (value - steps[below - 1]) / (steps[below] - steps[below - 1]);
  return (100 * (below - 1 + share)) / (steps.length - 1);
};
