// A condition such as  VIF < 0.5 and not (camera = 'A' or "wind speed" >= 3) , read by descent and never run as code.

const TOKEN = /\s*(?:('(?:[^']|'')*')|("(?:[^"]|"")*")|(-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)|([A-Za-z_][\w]*)|(<=|>=|!=|<>|=|<|>|\(|\)))/iy;

const tokensOf = (text) => {
  const found = [];
  TOKEN.lastIndex = 0;
  while (text.slice(TOKEN.lastIndex).trim()) {
    const start = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (!match) throw new Error(`${shown(text.slice(start).trim().slice(0, 20))} is not understood`);
    const [, quote, name, digits, word, sign] = match;
    if (quote !== undefined) found.push({ kind: "value", value: quote.slice(1, -1).replaceAll("''", "'") });
    else if (name !== undefined) found.push({ kind: "column", value: name.slice(1, -1).replaceAll('""', '"') });
    else if (digits !== undefined) found.push({ kind: "value", value: Number(digits) });
    else if (sign !== undefined) found.push({ kind: "sign", value: sign });
    else if (/^(and|or|not|like|is|null)$/i.test(word)) found.push({ kind: "word", value: word.toLowerCase() });
    else found.push({ kind: "column", value: word });
  }
  return found;
};

const likeOf = (pattern) =>
  new RegExp(`^${pattern.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll("%", ".*").replaceAll("_", ".")}$`, "su");

const compare = (left, sign, right) => {
  if (left === null || left === undefined || right === null || right === undefined) return false;
  if (sign === "like") return likeOf(String(right)).test(String(left));
  if (typeof left !== typeof right) [left, right] = [String(left), String(right)];
  if (sign === "=") return left === right;
  if (sign === "!=" || sign === "<>") return left !== right;
  if (sign === "<") return left < right;
  if (sign === "<=") return left <= right;
  return sign === ">" ? left > right : left >= right;
};

// Returns a function that says of a pair's place whether the pair meets the condition; throws on a wrong one.
const parseCondition = (text) => {
  const tokens = tokensOf(text);
  let at = 0;
  const take = (value) => (tokens[at] && tokens[at].kind !== "value" && tokens[at].kind !== "column"
    && tokens[at].value === value ? tokens[at++] : null);
  const operand = () => {
    const token = tokens[at++];
    if (token && token.kind === "value") return () => token.value;
    if (!token || token.kind !== "column") throw new Error("a column or a value is missing");
    const known = [...columns.keys()].find((name) => name.toLowerCase() === token.value.toLowerCase());
    if (known === undefined) throw new Error(`there is no column ${shown(token.value)}`);
    return columns.get(known);
  };
  const comparison = () => {
    if (take("not")) {
      const inner = comparison();
      return (place) => !inner(place);
    }
    if (take("(")) {
      const inner = either();
      if (!take(")")) throw new Error("a closing bracket is missing");
      return inner;
    }
    const left = operand();
    if (take("is")) {
      const negated = take("not");
      if (!take("null")) throw new Error("null is missing behind is");
      return (place) => ((left(place) ?? null) === null) === !negated;
    }
    const sign = ["=", "!=", "<>", "<=", ">=", "<", ">", "like"].find((each) => take(each));
    if (!sign) throw new Error("a comparison is missing, such as < or =");
    const right = operand();
    return (place) => compare(left(place), sign, right(place));
  };
  const both = () => {
    const parts = [comparison()];
    while (take("and")) parts.push(comparison());
    return (place) => parts.every((part) => part(place));
  };
  const either = () => {
    const parts = [both()];
    while (take("or")) parts.push(both());
    return (place) => parts.some((part) => part(place));
  };
  const found = either();
  if (at < tokens.length) throw new Error(`${shown(tokens[at].value)} is not expected there`);
  return found;
};
