// The SQL of an export. Like the service's it passes integers through JavaScript's numbers, so those
// beyond 2^53 are rounded.

import { columnsOf, schemaOf, tablesOf } from "./copy.js";

const quoted = (name) => `"${name.replaceAll('"', '""')}"`;

function literal(value) {
  if (value === null) return "NULL";
  if (typeof value === "number") return String(value);
  if (typeof value === "string") return `'${value.replaceAll("'", "''")}'`;
  const bytes = Array.from(new Uint8Array(value), (byte) => byte.toString(16).padStart(2, "0"));
  return `X'${bytes.join("")}'`;
}

/** The text; or an `error`, where the service refuses to export. */
export function dump(sql, { no_data, no_schema, tables: wanted }) {
  const isWanted = (name) => !wanted?.length || wanted.includes(name);
  const tables = tablesOf(sql);
  const virtual = tables.find(({ type }) => type === "virtual");
  if (virtual !== undefined) {
    const error = `D1 Export error: cannot export databases with Virtual Tables (${virtual.name})`;
    return { error };
  }
  const lines = ["PRAGMA defer_foreign_keys=TRUE;"];
  const schema = schemaOf(sql).filter(({ tbl_name }) => isWanted(tbl_name));
  const names = new Set(tables.map(({ name }) => name));
  for (const { type, name, sql: text } of schema) {
    if (type !== "table" || !names.has(name)) continue;
    if (!no_schema) lines.push(`${text};`);
    if (no_data) continue;
    const columns = columnsOf(sql, name).map((column) => quoted(column.name));
    const list = columns.join(",");
    for (const row of sql.exec(`SELECT ${list} FROM ${quoted(name)}`).raw()) {
      lines.push(`INSERT INTO ${quoted(name)} (${list}) VALUES(${row.map(literal).join(",")});`);
    }
  }
  if (!no_data && schemaOf(sql).some(({ name }) => name === "sqlite_sequence")) {
    lines.push("DELETE FROM sqlite_sequence;");
    for (const row of sql.exec("SELECT name, seq FROM sqlite_sequence").raw()) {
      lines.push(`INSERT INTO "sqlite_sequence" VALUES(${row.map(literal).join(",")});`);
    }
  }
  const rest = schema.filter(({ type }) => type !== "table" && !no_schema);
  return { text: [...lines, ...rest.map(({ sql: text }) => `${text};`), ""].join("\n") };
}
