/** The checksum of zip archives. */

/** Row 0 is the classic table; row k advances a byte past k further bytes, so that four go in one step. */
const TABLE = new Uint32Array(4 * 256);
for (let byte = 0; byte < 256; byte++) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  TABLE[byte] = crc;
}
for (let i = 256; i < TABLE.length; i++) {
  const previous = TABLE[i - 256]!;
  TABLE[i] = (previous >>> 8) ^ TABLE[previous & 0xff]!;
}

/** The CRC-32 of `bytes` as zip, gzip and PNG define it (polynomial 0xEDB88320), unsigned. */
export function crc32(bytes: Uint8Array): number {
  let crc = ~0;
  let i = 0;
  for (const end = bytes.length - 3; i < end; i += 4) {
    crc ^= bytes[i]! | bytes[i + 1]! << 8 | bytes[i + 2]! << 16 | bytes[i + 3]! << 24;
    crc = TABLE[768 + (crc & 0xff)]! ^ TABLE[512 + (crc >>> 8 & 0xff)]! ^ TABLE[256 + (crc >>> 16 & 0xff)]! ^
      TABLE[crc >>> 24]!;
  }
  for (; i < bytes.length; i++) crc = (crc >>> 8) ^ TABLE[(crc ^ bytes[i]!) & 0xff]!;
  return ~crc >>> 0;
}
