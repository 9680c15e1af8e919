//! CRC16/XMODEM and the Redis Cluster slot that is made of it (Redis Cluster specification, "Key
//! distribution model").

/// How many slots a Redis Cluster has.
pub const SLOTS: u16 = 16_384;

const TABLE: [u16; 256] = table();

#[expect(clippy::cast_possible_truncation, reason = "n is below 256")]
const fn table() -> [u16; 256] {
    let mut table = [0u16; 256];
    let mut n = 0;
    while n < 256 {
        let mut crc = (n as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
}

/// CRC16 with polynomial 0x1021, initial value 0, no reflection.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &b| crc << 8 ^ TABLE[usize::from((crc >> 8) as u8 ^ b)])
}

/// The slot of a key: of what stands between its first `{` and the next `}`, if that is not empty,
/// else of the whole key.
#[must_use]
pub fn slot(key: &[u8]) -> u16 {
    crc16(tag(key)) % SLOTS
}

fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&b| b == b'{') else { return key };
    let inner = &key[open + 1..];
    match inner.iter().position(|&b| b == b'}') {
        None | Some(0) => key,
        Some(close) => &inner[..close],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn tags_follow_the_specification() {
        assert_eq!(tag(b"foo{bar}baz"), b"bar");
        assert_eq!(tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(tag(b"foo{bar"), b"foo{bar");
    }
}
