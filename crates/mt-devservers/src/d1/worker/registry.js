// What survives the process, apart from the databases themselves: which there are, and the copies
// that were promised by a bookmark.

import { DurableObject } from "cloudflare:workers";

import { give, take } from "./state.js";

/** Characters of a copy in one row: the engine takes no value of more than 2 MB. */
const PIECE = 500_000;

export class Registry extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    this.sql = ctx.storage.sql;
    this.sql.exec("CREATE TABLE IF NOT EXISTS databases (uuid TEXT PRIMARY KEY, record TEXT)");
    this.sql.exec(
      "CREATE TABLE IF NOT EXISTS copies (uuid TEXT, bookmark TEXT, at INTEGER, " +
        "PRIMARY KEY (uuid, bookmark))",
    );
    this.sql.exec(
      "CREATE TABLE IF NOT EXISTS pieces (uuid TEXT, bookmark TEXT, place INTEGER, text TEXT, " +
        "PRIMARY KEY (uuid, bookmark, place))",
    );
  }

  all() {
    const rows = this.sql.exec("SELECT uuid, record FROM databases").toArray();
    const kept = "SELECT bookmark, at FROM copies WHERE uuid = ? ORDER BY at";
    return rows.map(({ uuid, record }) => ({
      record: JSON.parse(record),
      kept: this.sql.exec(kept, uuid).toArray(),
    }));
  }

  put(record) {
    const text = JSON.stringify(record);
    this.sql.exec("INSERT OR REPLACE INTO databases VALUES (?, ?)", record.uuid, text);
  }

  remove(uuid) {
    this.sql.exec("DELETE FROM databases WHERE uuid = ?", uuid);
    this.sql.exec("DELETE FROM copies WHERE uuid = ?", uuid);
    this.sql.exec("DELETE FROM pieces WHERE uuid = ?", uuid);
  }

  keep(uuid, bookmark, at, parcel) {
    // Plain ASCII, so that no cut parts the halves of a character.
    const escaped = (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`;
    const text = JSON.stringify(take(parcel)).replace(/[\u0080-\uffff]/g, escaped);
    this.sql.exec("INSERT OR REPLACE INTO copies VALUES (?, ?, ?)", uuid, bookmark, at);
    const insert = "INSERT OR REPLACE INTO pieces VALUES (?, ?, ?, ?)";
    for (let place = 0; place * PIECE < text.length; place += 1) {
      const piece = text.slice(place * PIECE, (place + 1) * PIECE);
      this.sql.exec(insert, uuid, bookmark, place, piece);
    }
  }

  /** The copy that a bookmark promised. */
  copy(uuid, bookmark) {
    const found = "SELECT text FROM pieces WHERE uuid = ? AND bookmark = ? ORDER BY place";
    const pieces = this.sql.exec(found, uuid, bookmark).toArray();
    const text = pieces.map((piece) => piece.text).join("");
    return give(pieces.length === 0 ? undefined : JSON.parse(text));
  }
}
