//! Answers that come message by message.

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{TryStreamExt as _, stream::BoxStream};
use libsql_hrana::proto::{CursorEntry, CursorRespBody};
use mt_remote::Fault;

use super::{door::Effect, encoding::Encoding, fault};

/// The longest message in bytes. SQLite has no row of more than a billion.
const LONGEST: usize = 1 << 30;
/// The longest prefix of a length up to [`LONGEST`], seven bits a byte.
const PREFIX: usize = 5;

/// An answer cut into messages: a line each in JSON, and each after its length in Protobuf.
pub(super) struct Frames {
    chunks: BoxStream<'static, Result<Bytes, Fault>>,
    encoding: Encoding,
    effect: Effect,
    buffer: BytesMut,
    /// How much of the buffer has no end of line in it.
    searched: usize,
}

impl Frames {
    pub(super) fn new(
        chunks: BoxStream<'static, Result<Bytes, Fault>>,
        encoding: Encoding,
        effect: Effect,
    ) -> Self {
        Self { chunks, encoding, effect, buffer: BytesMut::new(), searched: 0 }
    }

    /// What the answer begins with.
    pub(super) async fn head(&mut self) -> Result<CursorRespBody, Fault> {
        match self.next().await? {
            Some(frame) => self.encoding.read_head(frame, self.effect),
            None => Err(self.lost("an empty answer")),
        }
    }

    /// The next of what it goes on with.
    pub(super) async fn entry(&mut self) -> Result<Option<CursorEntry>, Fault> {
        let Some(frame) = self.next().await? else { return Ok(None) };
        self.encoding.read_entry(frame, self.effect).map(Some)
    }

    /// The answer cannot be understood.
    pub(super) fn lost(&self, what: &str) -> Fault {
        fault::lost(self.effect, fault::garbled(what))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let frame = match self.encoding {
                Encoding::Json => self.line(),
                Encoding::Protobuf => self.delimited()?,
            };
            if let Some(frame) = frame {
                return Ok(Some(frame));
            }
            match (self.chunks.try_next().await?, self.encoding) {
                (Some(chunk), _) => self.buffer.extend_from_slice(&chunk),
                (None, _) if self.buffer.is_empty() => return Ok(None),
                (None, Encoding::Protobuf) => return Err(self.lost("it breaks off")),
                (None, Encoding::Json) => {
                    // What has no end of line at the very end is a line too.
                    self.searched = 0;
                    return Ok(Some(self.buffer.split().freeze()));
                }
            }
        }
    }

    /// The next line that is there and is not empty.
    fn line(&mut self) -> Option<Bytes> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let Some(found) = found else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + found).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            if !line.is_empty() {
                return Some(line);
            }
        }
    }

    /// The next message that is there as a whole.
    fn delimited(&mut self) -> Result<Option<Bytes>, Fault> {
        let prefix = &self.buffer[..self.buffer.len().min(PREFIX)];
        let Some(last) = prefix.iter().position(|byte| *byte < 0x80) else {
            return if prefix.len() < PREFIX {
                Ok(None)
            } else {
                Err(self.lost("a message of no length"))
            };
        };
        let length = prost::decode_length_delimiter(prefix)
            .map_err(|e| fault::lost(self.effect, fault::unreadable(e)))?;
        if length > LONGEST {
            return Err(self.lost("a message that is too long"));
        }
        if self.buffer.len() < last + 1 + length {
            return Ok(None);
        }
        self.buffer.advance(last + 1);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::*;

    fn frames<'b>(chunks: impl IntoIterator<Item = &'b [u8]>, encoding: Encoding) -> Frames {
        let chunks: Vec<_> = chunks.into_iter().map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        Frames::new(stream::iter(chunks).boxed(), encoding, Effect::Reads)
    }

    #[tokio::test]
    async fn lines_are_cut_wherever_the_pieces_end() {
        let chunks: [&[u8]; 4] = [b"a\nb", b"c", b"\n\n", b"d"];
        let mut lines = frames(chunks, Encoding::Json);
        for expected in ["a", "bc", "d"] {
            assert_eq!(lines.next().await.unwrap().unwrap(), expected);
        }
        assert!(lines.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn messages_are_cut_wherever_the_pieces_end() {
        let long = vec![7; 300];
        let whole = [&[3, b'a', b'b', b'c', 0, 0xAC, 0x02], long.as_slice()].concat();
        for size in [1, 2, 5, 6, whole.len()] {
            let mut messages = frames(whole.chunks(size), Encoding::Protobuf);
            for expected in [b"abc".as_slice(), b"", &long] {
                assert_eq!(messages.next().await.unwrap().unwrap(), expected, "{size}");
            }
            assert!(messages.next().await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn a_message_that_breaks_off_or_has_no_length_is_an_error() {
        let endless: &[u8] = &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80];
        let too_long: &[u8] = &[0x81, 0x80, 0x80, 0x80, 0x04, 1];
        for torn in [b"\x03ab".as_slice(), b"\x80", endless, too_long] {
            assert!(frames([torn], Encoding::Protobuf).next().await.is_err(), "{torn:?}");
        }
    }
}
