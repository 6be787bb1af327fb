// Whole logical copies of a database, exact where JSON and JavaScript's numbers are not: time
// travel is made of them, for the engine has none outside the cloud.

const quoted = (name) => `"${name.replaceAll('"', '""')}"`;

/** A value as text that says its type; real numbers as they are. */
function packed(column) {
  const c = quoted(column);
  return (
    `CASE typeof(${c}) WHEN 'integer' THEN 'i' || ${c} WHEN 'text' THEN 't' || hex(${c}) ` +
    `WHEN 'blob' THEN 'b' || hex(${c}) WHEN 'real' THEN ` +
    `CASE ${c} WHEN 9e999 THEN 'e9e999' WHEN -9e999 THEN 'e-9e999' ELSE ${c} END END`
  );
}

/** The expression that makes the value again, and what is bound in it. */
function unpacked(cell) {
  if (cell === null) return ["NULL", undefined];
  if (typeof cell === "number") return ["?", cell];
  const rest = cell.slice(1);
  switch (cell[0]) {
    case "i":
      return ["CAST(? AS INTEGER)", rest];
    case "t":
      return ["CAST(unhex(?) AS TEXT)", rest];
    case "b":
      return ["unhex(?)", rest];
    default:
      return [rest, undefined];
  }
}

/** Tables that hold rows of their own: no views, and not what virtual tables keep theirs in. */
export function tablesOf(sql) {
  const found = sql.exec("PRAGMA table_list").toArray();
  return found.filter(
    ({ schema, name, type }) =>
      schema === "main" &&
      (type === "table" || type === "virtual") &&
      !name.startsWith("sqlite_") &&
      !name.startsWith("_cf_"),
  );
}

/** The columns of a table that can be written. */
export function columnsOf(sql, table) {
  const columns = sql.exec(`PRAGMA table_xinfo(${quoted(table)})`).toArray();
  return columns.filter((column) => column.hidden === 0);
}

export function schemaOf(sql) {
  const inOrder =
    "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid";
  return sql.exec(inOrder).toArray();
}

export function takeCopy(sql) {
  const tables = tablesOf(sql);
  const isTable = new Set(tables.map(({ name }) => name));
  const isOurs = ({ type, name }) => type !== "table" || isTable.has(name);
  const schema = schemaOf(sql).filter(isOurs);
  const rows = tables.map(({ name, type }) => {
    const columns = columnsOf(sql, name).map((column) => column.name);
    // A virtual table's rows are referred to by their number.
    if (type === "virtual" && !columns.includes("rowid")) columns.unshift("rowid");
    const list = columns.map(packed).join(", ");
    // JSON has no negative zero.
    const whole = (cell) => (Object.is(cell, -0) ? "e-0.0" : cell);
    const read = sql.exec(`SELECT ${list} FROM ${quoted(name)}`).raw();
    const cells = [...read].map((row) => row.map(whole));
    return { name, columns, cells };
  });
  const hasSequence = schemaOf(sql).some(({ name }) => name === "sqlite_sequence");
  const read = "SELECT name, CAST(seq AS TEXT) AS seq FROM sqlite_sequence";
  const sequence = hasSequence ? sql.exec(read).toArray() : [];
  return { schema, rows, sequence };
}

/** Fills an empty database. To be called in a transaction. */
export function loadCopy(sql, { schema, rows, sequence }) {
  sql.exec("PRAGMA defer_foreign_keys = ON");
  const make = (kinds) => {
    for (const item of schema) if (kinds.includes(item.type)) sql.exec(item.sql);
  };
  make(["table"]);
  for (const { name, columns, cells } of rows) {
    const into = `INSERT INTO ${quoted(name)} (${columns.map(quoted).join(", ")}) VALUES `;
    for (const row of cells) {
      const made = row.map(unpacked);
      const bound = made.map(([, value]) => value).filter((value) => value !== undefined);
      sql.exec(`${into}(${made.map(([expression]) => expression).join(", ")})`, ...bound);
    }
  }
  for (const { name, seq } of sequence) {
    sql.exec("DELETE FROM sqlite_sequence WHERE name = ?", name);
    sql.exec("INSERT INTO sqlite_sequence VALUES (?, CAST(? AS INTEGER))", name, seq);
  }
  // Later than the rows: triggers would make more of them.
  make(["index", "view", "trigger"]);
}
