// What follows the address: the page as a whole, or the one pair that #pair=<pair_id> names.

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

// Links to the pairs before and after the one that is open; undefined where the page does not hold it.
const linkNeighbours = (at) => {
  for (const [id, step] of [["pair-previous", -1], ["pair-next", 1]]) {
    const other = at === undefined ? NaN : at + step;
    byId(id).hidden = !(other >= 0 && other < numShown);
    if (!byId(id).hidden) byId(id).href = linkOf(other);
  }
};
