// One database: a Durable Object with SQLite. Nothing but the tenant's tables is kept in it.

import { DurableObject } from "cloudflare:workers";

import { loadCopy, takeCopy } from "./copy.js";
import { dump } from "./dump.js";
import { split } from "./split.js";
import { give, take } from "./state.js";

/** Statements that surely leave no trace. Others may turn out to have left none. */
const READS = /^(?:\s|--[^\n]*\n|\/\*[^]*?\*\/)*(?:select|explain|values|(with))\b/i;

/** Words without which nothing that begins with WITH writes. `replace(…)` is a function. */
const WRITES = /\b(?:insert|update|delete|replace(?!\s*\())\b/i;

const reads = ({ sql }) => {
  const found = READS.exec(sql);
  return found !== null && (found[1] === undefined || !WRITES.test(sql));
};

const COUNTERS = "SELECT total_changes() AS changes, last_insert_rowid() AS id";

export class Database extends DurableObject {
  get sql() {
    return this.ctx.storage.sql;
  }

  /**
   * Runs statements as one transaction. The parcel has their results as JSON; or `error` says why
   * nothing was done. With them comes the copy of what there was before, when it was wanted and
   * something may have changed.
   */
  run(statements, { isRaw, meta, wantsCopy, copyLimit }) {
    const isRead = statements.every(reads);
    const size = this.sql.databaseSize;
    const copies = wantsCopy && !isRead && size <= copyLimit;
    const copy = copies ? takeCopy(this.sql) : undefined;
    let hasChanged = false;
    try {
      const results = this.ctx.storage.transactionSync(() =>
        statements.map((statement) => {
          const { result, written } = this.one(statement, isRaw, meta);
          hasChanged ||= result.meta.changed_db || written > 0;
          return result;
        }),
      );
      return { parcel: give({ json: JSON.stringify(results), copy }), hasChanged, size };
    } catch (error) {
      return { error: error.message, hasChanged: false };
    }
  }

  one({ sql, params }, isRaw, meta) {
    const before = this.sql.exec(COUNTERS).one();
    const sizeBefore = this.sql.databaseSize;
    const start = Date.now();
    const cursor = this.sql.exec(sql, ...params);
    const rows = [...cursor.raw()].map((row) => row.map(shown));
    const duration = Date.now() - start;
    const after = this.sql.exec(COUNTERS).one();
    const size = this.sql.databaseSize;
    const changes = after.changes - before.changes;
    const columns = cursor.columnNames;
    const object = (row) => Object.fromEntries(row.map((value, at) => [columns[at], value]));
    const result = {
      results: isRaw ? { columns, rows } : rows.map(object),
      success: true,
      meta: {
        ...meta,
        timings: { sql_duration_ms: duration },
        duration,
        changes,
        last_row_id: after.id,
        changed_db: changes !== 0 || after.id !== before.id || size !== sizeBefore,
        size_after: size,
        rows_read: cursor.rowsRead,
        rows_written: cursor.rowsWritten,
      },
    };
    return { result, written: cursor.rowsWritten };
  }

  /** Runs a whole file. When a statement fails nothing was done. */
  script(parcel) {
    const text = take(parcel);
    let [queries, rows_read, rows_written] = [0, 0, 0];
    const before = this.sql.exec(COUNTERS).one();
    const start = Date.now();
    try {
      this.ctx.storage.transactionSync(() => {
        for (const { sql, isEmpty } of split(text)) {
          if (isEmpty) continue;
          const cursor = this.sql.exec(sql);
          cursor.toArray();
          queries += 1;
          rows_read += cursor.rowsRead;
          rows_written += cursor.rowsWritten;
        }
      });
    } catch (error) {
      return { error: error.message };
    }
    const after = this.sql.exec(COUNTERS).one();
    const duration = Date.now() - start;
    return {
      queries,
      meta: {
        timings: { sql_duration_ms: duration },
        duration,
        changes: after.changes - before.changes,
        last_row_id: after.id,
        changed_db: true,
        size_after: this.sql.databaseSize,
        rows_read,
        rows_written,
      },
    };
  }

  describe() {
    const tables =
      "SELECT count(*) AS count FROM sqlite_master WHERE type = 'table' " +
      "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    return { file_size: this.sql.databaseSize, num_tables: this.sql.exec(tables).one().count };
  }

  copy() {
    return give(takeCopy(this.sql));
  }

  load(parcel) {
    const copy = take(parcel);
    this.ctx.storage.transactionSync(() => loadCopy(this.sql, copy));
  }

  dump(options) {
    return give(dump(this.sql, options));
  }

  destroy() {
    return this.ctx.storage.deleteAll();
  }
}

/** JSON knows no bytes. What it makes of numbers is what the service makes of them. */
const shown = (value) =>
  value instanceof ArrayBuffer ? Array.from(new Uint8Array(value)) : value;
