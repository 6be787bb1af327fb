// /query and /raw.

import { bodyOf } from "./api.js";
import { checkIdle } from "./jobs.js";
import { doneWith, malformed, sqlRefused } from "./reply.js";
import { split } from "./split.js";
import { begin, hold, objectOf, take } from "./state.js";

/** Up to which size, in bytes, a database is copied before it is written to. */
const COPY_LIMIT = 1 << 19;

/** The largest text or blob that the service documents, in bytes. */
const VALUE_LIMIT = 2_000_000;

const encoder = new TextEncoder();

export async function query({ request, env, entry }, isRaw) {
  const statements = statementsOf(await bodyOf(request));
  checkIdle(env, entry);
  const { version } = entry;
  const wantsCopy = env.SETTINGS.history && version.copy === undefined && !version.isKept;
  const options = { isRaw, wantsCopy, copyLimit: COPY_LIMIT, meta: metaOf(entry) };
  const answer = await objectOf(env, entry).run(statements, options);
  if (answer.error !== undefined) throw sqlRefused(answer.error);
  const { json, copy } = take(answer.parcel);
  if (answer.hasChanged) passOn(entry, copy, answer.size);
  return doneWith(json);
}

/** What there was before becomes history. */
function passOn(entry, copy, size) {
  const past = entry.version;
  // A write that ran at the same time may have passed the version on, and began another: its reply
  // came first, so it ran first, and what we copied is what it left.
  if (!past.isKept) past.copy ??= copy;
  if (past.copy !== undefined) hold(past, size);
  const last = entry.history.at(-1);
  const isGap = (one) => one !== undefined && !one.isKept && one.copy === undefined;
  // Of versions that cannot be had one tells as much as many.
  if (!isGap(past) || !isGap(last)) entry.history.push(past);
  begin(entry);
}

function metaOf({ region }) {
  return {
    served_by: "v3-prod",
    served_by_region: region,
    served_by_colo: "AMS",
    served_by_primary: true,
    total_attempts: 1,
  };
}

function statementsOf(body) {
  if (body.batch === undefined) return parts(body);
  if (body.sql !== undefined) throw malformed("Invalid property: sql => not together with batch");
  if (!Array.isArray(body.batch)) throw malformed("Invalid property: batch => Expected array");
  if (body.batch.length === 0) throw sqlRefused("No SQL statements detected.");
  return body.batch.flatMap((one) => parts(one ?? {}));
}

/** One result is told for each statement of a text. */
function parts({ sql, params = [] }) {
  if (typeof sql !== "string") throw malformed("Invalid property: sql => Required");
  if (params !== null && !Array.isArray(params)) throw malformed("Invalid property: params");
  const found = split(sql);
  if (found.every(({ isEmpty }) => isEmpty)) throw sqlRefused("No SQL statements detected.");
  if (found.some(({ isEmpty }) => isEmpty)) {
    throw sqlRefused("SQL code did not contain a statement.");
  }
  const bound = (params ?? []).map(bind);
  if (found.length > 1 && bound.length > 0) {
    throw sqlRefused(
      "When executing multiple SQL statements in a single call, only the last statement can " +
        "have parameters.",
    );
  }
  return found.map((one) => ({ sql: one.sql, params: bound }));
}

/**
 * A number is a double, as in JavaScript; bytes are an array of numbers. The engine here would take
 * larger values than the service documents.
 */
function bind(value) {
  const size = typeof value === "string" ? encoder.encode(value).length : (value?.length ?? 0);
  if (size > VALUE_LIMIT) throw sqlRefused("string or blob too big: SQLITE_TOOBIG");
  if (value === null || typeof value === "number" || typeof value === "string") return value;
  if (typeof value === "boolean") return value ? 1 : 0;
  const isByte = (byte) => Number.isInteger(byte) && byte >= 0 && byte <= 255;
  if (Array.isArray(value) && value.every(isByte)) return new Uint8Array(value).buffer;
  const message = `Type '${typeof value}' not supported for value '${value}'`;
  throw sqlRefused(message);
}
