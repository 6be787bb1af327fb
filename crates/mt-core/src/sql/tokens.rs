//! Text of SQL as tokens, the way the engines read it.

use std::ops::Range;

use sea_orm::DbBackend;

/// A piece of SQL that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A bare word, or a number up to a point or a sign in it.
    Word(&'a str),
    /// A quoted word or string, with its quotes.
    Quoted(&'a str),
    /// A parameter, such as `?1` or `:name`.
    Parameter(&'a str),
    /// Any other character that is not white space; `?` for one that is not ASCII.
    Mark(u8),
}

/// The tokens of text of the SQLite dialect, each with the bytes of the text where it stands.
///
/// White space and comments are between them and are left out. Any text can be read; where SQLite
/// would refuse it, the tokens only serve to find out where.
#[derive(Clone, Debug)]
pub struct SqlTokens<'a> {
    tokens: Tokens<'a>,
    length: usize,
}

impl<'a> SqlTokens<'a> {
    /// Reads `sql` from its beginning.
    pub const fn new(sql: &'a str) -> Self {
        Self { tokens: Tokens { rest: sql, backend: DbBackend::Sqlite }, length: sql.len() }
    }
}

impl<'a> Iterator for SqlTokens<'a> {
    type Item = (Token<'a>, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        self.tokens.skip_space();
        let from = self.length - self.tokens.rest.len();
        let token = self.tokens.next()?;
        Some((token, from..self.length - self.tokens.rest.len()))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Tokens<'a> {
    pub(super) rest: &'a str,
    pub(super) backend: DbBackend,
}

impl<'a> Tokens<'a> {
    /// Moves past `bytes` and gives them back.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Moves past the next `end`, or to the end of the text.
    fn skip_past(&mut self, end: &str) {
        let to = self.rest.find(end).map_or(self.rest.len(), |at| at + end.len());
        self.take(to);
    }

    fn is_postgres(&self) -> bool {
        self.backend == DbBackend::Postgres
    }

    /// White space and comments. Answers whether there was a new line among them.
    pub(super) fn skip_space(&mut self) -> bool {
        let before = self.rest;
        loop {
            // SQLite takes a byte order mark for white space.
            let is_space = |c: char| {
                c.is_ascii_whitespace() || c == '\u{b}' || (c == '\u{feff}' && !self.is_postgres())
            };
            self.rest = self.rest.trim_start_matches(is_space);
            if self.rest.starts_with("--") {
                let ends: &[char] = if self.is_postgres() { &['\n', '\r'] } else { &['\n'] };
                let to = self.rest.find(ends).map_or(self.rest.len(), |at| at + 1);
                self.take(to);
            } else if self.rest.starts_with("/*") {
                self.skip_block_comment();
            } else {
                return before[..before.len() - self.rest.len()].contains(['\n', '\r']);
            }
        }
    }

    /// Block comments nest in PostgreSQL and do not in SQLite.
    fn skip_block_comment(&mut self) {
        self.take(2);
        let mut depth = 1;
        while depth > 0 && !self.rest.is_empty() {
            if self.rest.starts_with("*/") {
                self.take(2);
                depth -= 1;
            } else if self.rest.starts_with("/*") && self.is_postgres() {
                self.take(2);
                depth += 1;
            } else {
                let step = self.rest.chars().next().map_or(1, char::len_utf8);
                self.take(step);
            }
        }
    }

    /// Moves past a quoted text that opens with `quote`; a doubled quote stays inside.
    fn skip_quoted(&mut self, quote: char, backslash_escapes: bool) {
        self.take(1);
        let mut chars = self.rest.char_indices().peekable();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            if backslash_escapes && c == '\\' {
                chars.next();
            } else if c == quote {
                if chars.peek().is_some_and(|(_, next)| *next == quote) {
                    chars.next();
                } else {
                    end = at + c.len_utf8();
                    break;
                }
            }
        }
        self.take(end);
    }

    /// A string of PostgreSQL goes on where another begins on a later line, in the same mode.
    fn skip_continued(&mut self, backslash_escapes: bool) {
        loop {
            let after = self.rest;
            if !(self.skip_space() && self.rest.starts_with('\'')) {
                self.rest = after;
                return;
            }
            self.skip_quoted('\'', backslash_escapes);
        }
    }

    /// PostgreSQL's `$tag$ … $tag$`; `None` where the dollar is a parameter.
    fn dollar_quote(&self) -> Option<&'a str> {
        let after = self.rest.strip_prefix('$').filter(|_| self.is_postgres())?;
        let tag = after.find('$')?;
        let is_tag = after[..tag].chars().all(|c| is_word(c) && c != '$')
            && !after.starts_with(|c: char| c.is_ascii_digit());
        is_tag.then(|| &self.rest[..tag + 2])
    }

    /// SQLite's parameters: `?1`, `:a`, `@a`, `#1`, `$a`, `$a::b(…)`. What stands in those
    /// parentheses, up to the first `)` or space, is part of the name.
    fn skip_parameter(&mut self) {
        self.take(1);
        let mut length = 0;
        loop {
            let rest = &self.rest[length..];
            match rest.chars().next() {
                Some(c) if is_word(c) => length += c.len_utf8(),
                Some(':') if rest.starts_with("::") => length += 2,
                Some('(') if length > 0 => {
                    let is_end = |c: char| c == ')' || c.is_ascii_whitespace() || c == '\u{b}';
                    length += rest.find(is_end).unwrap_or(rest.len());
                    if self.rest[length..].starts_with(')') {
                        length += 1;
                    }
                    break;
                }
                _ => break,
            }
        }
        self.take(length);
    }
}

/// A character of a bare word, in both dialects.
const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_space();
        let first = self.rest.chars().next()?;
        let before = self.rest;
        let postgres = self.is_postgres();
        if let Some(tag) = self.dollar_quote() {
            self.take(tag.len());
            self.skip_past(tag);
            return Some(Token::Quoted(tag));
        }
        match first {
            '\'' => {
                self.skip_quoted(first, false);
                if postgres {
                    self.skip_continued(false);
                }
            }
            '"' => self.skip_quoted(first, false),
            '`' if !postgres => self.skip_quoted(first, false),
            '[' if !postgres => self.skip_past("]"),
            'e' | 'E' if postgres && self.rest[1..].starts_with('\'') => {
                self.take(1);
                self.skip_quoted('\'', true);
                self.skip_continued(true);
            }
            '$' | ':' | '@' | '#' if !postgres => {
                self.skip_parameter();
                return Some(Token::Parameter(&before[..before.len() - self.rest.len()]));
            }
            '?' if !postgres => {
                let digits = self.rest[1..].find(|c: char| !c.is_ascii_digit());
                let length = digits.map_or(self.rest.len(), |digits| digits + 1);
                return Some(Token::Parameter(self.take(length)));
            }
            c if is_word(c) => {
                let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
                return Some(Token::Word(self.take(end)));
            }
            c => {
                self.take(c.len_utf8());
                return Some(Token::Mark(u8::try_from(c).unwrap_or(b'?')));
            }
        }
        Some(Token::Quoted(&before[..before.len() - self.rest.len()]))
    }
}
