//! The seeds of the fuzz targets are what the generators make today; `REWRITE=1` writes them anew.

use super::super::batch::BatchBuilder;
use super::super::messages::{AnyRequest, AnyResponse};
use super::super::schema;
use super::super::versions::APIS;
use crate::bound::generate::{Random, message};
use crate::compression::Compression;
use crate::testing::check_seed as check;

#[test]
fn messages_are_current() {
    for api in APIS {
        for version in api.min..=api.max {
            let mut random = Random(5 ^ ((api.key as u64) << 32) ^ version as u64);
            let body = message(&mut random, schema::request(api.key), version, api.is_flexible(version));
            let request = AnyRequest::decode(api.key, version, body.into()).unwrap();
            let name = format!("{}-v{version}", api.name);
            check("request", &name, &request.encode(version, 7, Some("seed")).unwrap());
            let body = message(&mut random, schema::response(api.key), version, api.is_flexible(version));
            let head = vec![0; 4 + api.response_header_version(version) as usize];
            let (_, response) = AnyResponse::decode(api.key, version, [head, body].concat().into()).unwrap();
            let written = response.encode(version, 7).unwrap();
            check("response", &name, &[&[api.key as u8, version as u8], &written[4..]].concat());
        }
    }
}

#[test]
fn batches_and_compressed_bytes_are_current() {
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new(codec).producer(9, 0, 3);
        builder.push_with_headers(10, Some(b"key"), Some(&[b'v'; 100]), &[(b"name", Some(b"value")), (b"null", None)]);
        builder.push(12, None, None);
        check("batch", codec.name(), &builder.build().unwrap());
        let packed = codec.compress(&b"compress me ".repeat(20)).unwrap();
        check("decompress", codec.name(), &[&[codec as u8], &packed[..]].concat());
    }
}

#[test]
fn killers_are_current() {
    let head = |key: u8, version: u8| [0, key, 0, version, 0, 0, 0, 1, 0xff, 0xff];
    let frame = |parts: &[&[u8]]| {
        let body = parts.concat();
        [&(body.len() as u32).to_be_bytes()[..], &body].concat()
    };
    check("request", "killer-metadata-v1", &frame(&[&head(3, 1), &[0x7f, 0xff, 0xff, 0xff]]));
    check("request", "killer-metadata-v9", &frame(&[&head(3, 9), &[0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]]));
    check("request", "killer-tags", &frame(&[&head(18, 3), &[0, 1, 1, 0xff, 0xff, 0x3f]]));
    check("request", "killer-header-tags", &frame(&[&head(18, 3), &[0xff, 0xff, 0xff, 0xff, 0x0f]]));
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(0, None, Some(b"six"));
    let mut forged = builder.build().unwrap().to_vec();
    forged[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    check("batch", "killer-record-count", &forged);
    check("decompress", "killer-snappy-length", &[2, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
    check("decompress", "killer-zstd-window", &[4, 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x01, 0x00, 0x00]);
    let zeros = vec![0; 16 << 20];
    check("decompress", "killer-zstd-bomb", &[vec![4], Compression::Zstd.compress(&zeros).unwrap()].concat());
    check(
        "decompress",
        "killer-gzip-bomb",
        &[vec![1], Compression::Gzip.compress(&zeros[..1 << 22]).unwrap()].concat(),
    );
}
