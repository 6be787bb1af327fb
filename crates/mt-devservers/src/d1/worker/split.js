// Cuts SQL into statements, where SQLite's own shell would cut it.

const TOKEN =
  /(?<space>\s+)|(?<comment>--[^\n]*|\/\*[^]*?(?:\*\/|$))|(?<word>[\p{L}_$][\p{L}\p{N}_$]*)|(?<end>;)|'(?:[^']|'')*'?|"(?:[^"]|"")*"?|`(?:[^`]|``)*`?|\[[^\]]*\]?|[^]/uy;

/** White space and comments. */
const NOTHING = /(?:\s+|--[^\n]*|\/\*[^]*?(?:\*\/|$))*/y;

/** Words that may come before the TRIGGER of CREATE TRIGGER. */
const BEFORE_TRIGGER = /^(?:explain |query |plan )*create (?:temp |temporary )?trigger $/;

/**
 * The statements of a text, without their semicolons, and whether each has anything in it but
 * comments. A trigger ends with the END that follows a semicolon.
 */
export function split(text) {
  if (!text.includes(";")) return one(text.trim());
  const parts = [];
  let [start, head, isEmpty, isBlank] = [0, "", true, true];
  let [isTrigger, afterEnd, afterSemicolon] = [false, false, false];
  const cut = (end) => {
    if (!isBlank || end < text.length) parts.push({ sql: text.slice(start, end).trim(), isEmpty });
    [start, head, isEmpty, isBlank] = [end + 1, "", true, true];
    [isTrigger, afterEnd, afterSemicolon] = [false, false, false];
  };
  TOKEN.lastIndex = 0;
  for (let match; TOKEN.lastIndex < text.length && (match = TOKEN.exec(text)); ) {
    const { space, comment, word, end } = match.groups;
    if (space !== undefined) continue;
    isBlank = false;
    if (comment !== undefined) continue;
    if (end !== undefined) {
      if (!isTrigger || afterEnd) cut(match.index);
      else afterSemicolon = true;
      continue;
    }
    isEmpty = false;
    if (!isTrigger && head.length < 64) {
      head += `${(word ?? "?").toLowerCase()} `;
      isTrigger = BEFORE_TRIGGER.test(head);
    }
    afterEnd = isTrigger && afterSemicolon && word?.toLowerCase() === "end";
    afterSemicolon = false;
  }
  cut(text.length);
  return parts;
}

/**
 * What has no semicolon is not cut, so its tokens need not be known: they would cost a long statement
 * more time than the engine takes for it.
 */
function one(sql) {
  NOTHING.lastIndex = 0;
  const [nothing] = NOTHING.exec(sql);
  return sql === "" ? [] : [{ sql, isEmpty: nothing.length === sql.length }];
}
