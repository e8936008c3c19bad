"use strict";

// Tables: sorting by the buttons in their heads, filtering by words, the first rows before all.

function numberIn(text) {
  return parseFloat(text.replace(/,/g, "").replace("−", "-"));
}

function compare(a, b, isNumber) {
  if (!isNumber) return a.localeCompare(b, undefined, { numeric: true });
  const [x, y] = [numberIn(a), numberIn(b)];
  return x - y;
}

function isBlank(text, isNumber) {
  return text === "" || text === "–" || (isNumber && Number.isNaN(numberIn(text)));
}

function liven(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const tools = document.querySelector(`.tools[data-for="${table.id}"]`);
  const all = document.querySelector(`.all[data-for="${table.id}"]`);
  const input = tools.querySelector("input");
  const found = tools.querySelector(".found");
  let rows = [...body.rows].map((row) => ({
    row,
    cells: [...row.cells].map((cell) => cell.textContent),
  }));
  for (const each of rows) each.text = each.cells.join(" ").toLowerCase();
  const total = rows.length;
  let shown = Number(table.dataset.shown);

  function show() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let matching = 0;
    for (const { row, text } of rows) {
      const matches = words.every((word) => text.includes(word));
      if (matches) matching += 1;
      row.hidden = !matches || matching > shown;
    }
    const visible = Math.min(matching, shown);
    found.textContent = `${visible.toLocaleString("en")} of ${total.toLocaleString("en")}`;
    if (all) all.hidden = matching <= shown;
  }

  function sort(k, direction) {
    const isNumber = heads[k].classList.contains("number");
    const sign = direction === "ascending" ? 1 : -1;
    rows.sort((a, b) => {
      const [x, y] = [a.cells[k], b.cells[k]];
      const [noX, noY] = [isBlank(x, isNumber), isBlank(y, isNumber)];
      if (noX || noY) return noX - noY; // what was never measured stands last, either way
      return sign * compare(x, y, isNumber);
    });
    body.append(...rows.map(({ row }) => row));
    heads.forEach((head, i) => head.setAttribute("aria-sort", i === k ? direction : "none"));
    show();
  }

  heads.forEach((head, k) =>
    head.querySelector("button").addEventListener("click", () => {
      sort(k, head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending");
    }),
  );
  input.addEventListener("input", show);
  if (all)
    all.addEventListener("click", () => {
      shown = Infinity;
      show();
    });
  show();
}

document.querySelectorAll("table.sortable").forEach(liven);

// Charts: drawn one after the other, again when light turns to dark, and in the light for paper.

const darkColours = JSON.parse(document.getElementById("dark").textContent);
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const charts = [...document.querySelectorAll(".chart")].map((place) => ({
  place,
  json: place.parentElement.querySelector("script.figure").textContent,
}));
const PAPER_PX = 680; // between the margins of A4, at 96 per inch
const GAP_PX = 32;

function figureOf(json, isDark) {
  return JSON.parse(json, (key, value) =>
    isDark && typeof value === "string" && Object.hasOwn(darkColours, value)
      ? darkColours[value]
      : value,
  );
}

function draw({ place, json }, onPaper) {
  const { data, layout } = figureOf(json, prefersDark.matches && !onPaper);
  if (onPaper) layout.width = place.closest(".half") ? (PAPER_PX - GAP_PX) / 2 : PAPER_PX;
  Plotly.react(place, data, layout, { displayModeBar: false, responsive: !onPaper });
}

async function drawAll() {
  for (const chart of charts) {
    draw(chart, false);
    await new Promise((resolve) => setTimeout(resolve)); // the page stays usable in between
  }
  document.documentElement.dataset.drawn = charts.length;
}

prefersDark.addEventListener("change", drawAll);
addEventListener("beforeprint", () => charts.forEach((chart) => draw(chart, true)));
addEventListener("afterprint", () => charts.forEach((chart) => draw(chart, false)));
drawAll();
