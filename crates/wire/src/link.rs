//! `link.proto`'s one message that is not generated.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, bytes as field, skip_field};
use prost::{DecodeError, Message};

/// Messages, in the order in which they were sent.
///
/// Written by hand because an empty message takes two bytes in a frame and 32 once it is decoded:
/// a frame of nothing else would claim sixteen times its size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The messages, as views into the received buffer.
    pub messages: Vec<Bytes>,
    /// How many messages beyond [`Self::MAX_MESSAGES`] the frame had. They were not kept, so the
    /// frame must be refused unless this is 0. Never sent.
    pub excess: usize,
}

impl Frame {
    /// Most messages in a frame that is read.
    pub const MAX_MESSAGES: usize = 1_024;
    const MESSAGES: u32 = 1;
}

impl Message for Frame {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        field::encode_repeated(Self::MESSAGES, &self.messages, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            Self::MESSAGES if self.messages.len() < Self::MAX_MESSAGES => {
                field::merge_repeated(wire_type, &mut self.messages, buf, context)
            }
            Self::MESSAGES => {
                self.excess += 1;
                skip_field(wire_type, tag, buf, context)
            }
            _ => skip_field(wire_type, tag, buf, context),
        }
    }

    fn encoded_len(&self) -> usize {
        field::encoded_len_repeated(Self::MESSAGES, &self.messages)
    }

    fn clear(&mut self) {
        self.messages.clear();
        self.excess = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As prost would generate it.
    #[derive(Clone, PartialEq, Message)]
    struct Generated {
        #[prost(bytes = "bytes", repeated, tag = "1")]
        messages: Vec<Bytes>,
    }

    proptest! {
        #[test]
        fn frames_are_those_of_the_contract(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..80),
        ) {
            let messages: Vec<Bytes> = messages.into_iter().map(Bytes::from).collect();
            let frame = Frame { messages: messages.clone(), excess: 0 };
            let bytes = frame.encode_to_vec();
            prop_assert_eq!(&bytes, &Generated { messages }.encode_to_vec());
            prop_assert_eq!(Frame::decode(&bytes[..]), Ok(frame));
        }

        #[test]
        fn arbitrary_bytes_are_a_frame_to_both_or_to_none(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let ours = Frame::decode(&bytes[..]).map(|frame| frame.messages).ok();
            let generated = Generated::decode(&bytes[..]).map(|frame| frame.messages).ok();
            prop_assert_eq!(ours, generated);
        }
    }

    #[test]
    fn a_frame_of_empty_messages_does_not_grow() {
        let messages = vec![Bytes::new(); Frame::MAX_MESSAGES + 5];
        let frame = Frame::decode(&Generated { messages }.encode_to_vec()[..]).unwrap();
        assert_eq!((frame.messages.len(), frame.excess), (Frame::MAX_MESSAGES, 5));
    }
}
