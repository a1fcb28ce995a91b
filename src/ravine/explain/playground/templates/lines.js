// The lines of a rule in one step: symbol and formula typeset, the formula with numbers, and the value.

const LONGEST = 90;

/** An element with attributes and children. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/**
 * What one coordinate, or the one value that is for both, shows of a line: formula with numbers, and value. A line
 * whose coordinates have formulas of their own shows these, and their numbers where that is not too long.
 */
function rowsOf(line) {
  const { value } = line;
  const several = value instanceof Matrix && value.data.length === 2 && value.rows === 1;
  const one = (name, i) => {
    const result = number(value.data[i]), substituted = line.substituted(i);
    const own = line.formulas?.[i], both = `${own} = ${substituted}`;
    return [name, !own ? substituted : substituted === result || both.length > LONGEST ? own : both, result];
  };
  if (several) return [one("x", 0), one("y", 1)];
  return [["", line.substituted(null), shown(value, null)]];
}

const sectionName = (section) => section.join(" › ");

/** Fill the list; numbers of lines that have not run are left out. Built anew only where other lines are shown. */
function drawLines(list, lines, done, current) {
  const kind = JSON.stringify(lines.map((line) => [line.formula, line.symbol, line.section]));
  if (list.dataset.kind !== kind) {
    list.dataset.kind = kind;
    const told = new Set(lines.map((line) => sectionName(line.section)).filter(Boolean)).size > 1;
    list.replaceChildren(...lines.flatMap((line, i) => blank(line, told ? lines[i - 1]?.section ?? [] : line.section)));
  }
  const items = [...list.querySelectorAll("li.line")];
  lines.forEach((line, i) => {
    const item = items[i], ran = i < done;
    item.classList.toggle("waiting", !ran);
    item.classList.toggle("current", i === current);
    if (i === current) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
    const numbers = item.querySelector(".numbers"), rows = ran ? rowsOf(line) : [];
    const texts = rows.flatMap(([name, substituted, value]) => [name, substituted === value ? "" : substituted, `= ${value}`]);
    while (numbers.children.length > texts.length) numbers.lastChild.remove();
    while (numbers.children.length < texts.length) {
      numbers.append(element("span", { className: ["name", "substituted", "value"][numbers.children.length % 3] }));
    }
    texts.forEach((text, k) => { if (numbers.children[k].textContent !== text) numbers.children[k].textContent = text; });
  });
  return items;
}

/** A line without numbers; where another rule or wrapper begins to speak than before, its name first. */
function blank(line, before) {
  const formula = element("div", { className: "formula" });
  if (line.mathml) formula.innerHTML = line.mathml;
  else formula.textContent = `${line.symbol} ← ${line.formula}`;
  const item = element("li", { className: "line" }, formula, element("div", { className: "numbers" }));
  const section = sectionName(line.section);
  const isNew = section && section !== sectionName(before);
  return isNew ? [element("li", { className: "section", role: "presentation" }, section), item] : [item];
}

/** A line as a sentence, for a screen reader. */
function spoken(line) {
  const values = rowsOf(line).map(([name, , value]) => (name ? `${name} ${value}` : value)).join(", ");
  return `${line.symbol} becomes ${line.formula}: ${values}`;
}
