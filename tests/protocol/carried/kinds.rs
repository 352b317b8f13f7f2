//! What is tried, by type: [`POSTGRES`], [`SQLITE`], and from one to the other.

/// One column on either side, and what is tried in it.
pub struct Kind {
    pub legacy: &'static str,
    pub new: &'static str,
    /// SQL of the bits of `$`, as PostgreSQL's new column holds it.
    pub bits: &'static str,
    /// SQL of values that arrive. Between two engines, where the new one says it in another way:
    /// `value => value as the new engine says it`.
    pub kept: &'static [&'static str],
    /// SQL of values that do not.
    pub held: &'static [&'static str],
}

impl Kind {
    /// A value that arrives, as each side says it.
    pub fn ends(sql: &'static str) -> (&'static str, &'static str) {
        sql.split_once(" => ").unwrap_or((sql, sql))
    }
}

const fn same(both: &'static str, bits: &'static str, kept: &'static [&'static str]) -> Kind {
    Kind {
        legacy: both,
        new: both,
        bits,
        kept,
        held: &[],
    }
}

pub(super) const fn into(
    (legacy, new): (&'static str, &'static str),
    bits: &'static str,
    kept: &'static [&'static str],
    held: &'static [&'static str],
) -> Kind {
    Kind {
        legacy,
        new,
        bits,
        kept,
        held,
    }
}

#[rustfmt::skip]
pub const POSTGRES: &[Kind] = &[
    same("smallint", "int2send($)", &["-32768", "32767"]),
    same("integer", "int4send($)", &["-2147483648", "2147483647"]),
    same("bigint", "int8send($)", &["-9223372036854775808", "9223372036854775807"]),
    same("numeric", "numeric_send($)", &["0", "1.50", "-0.000000000000000000000000000000000001", "'NaN'", "'Infinity'", "'-Infinity'", "repeat('9', 131072)::numeric", "('0.' || repeat('1', 16383))::numeric"]),
    same("numeric(38,10)", "numeric_send($)", &["9999999999999999999999999999.9999999999", "-0.0000000001"]),
    same("real", "float4send($)", &["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0.1", "3.4028235e38", "1e-45", "16777217"]),
    same("double precision", "float8send($)", &["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0.1", "0.1::float8 + 0.2", "1.7976931348623157e308", "5e-324", "2.2250738585072014e-308", "9007199254740993"]),
    same("boolean", "boolsend($)", &["true", "false"]),
    same("timestamp", "timestamp_send($)", &["'infinity'", "'-infinity'", "'4713-01-01 00:00:00 BC'", "'294276-12-31 23:59:59.999999'", "'2024-02-29 12:34:56.000001'"]),
    same("timestamptz", "timestamptz_send($)", &["'infinity'", "'-infinity'", "'4713-01-01 00:00:00+00 BC'", "'294276-12-31 23:59:59.999999+00'", "'2024-03-31 02:30:00+01'", "'2024-01-01 00:00:00-15:59'"]),
    same("timestamp(0)", "timestamp_send($)", &["'2024-02-29 12:34:56'"]),
    same("date", "date_send($)", &["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'", "'2024-02-29'"]),
    same("time", "time_send($)", &["'00:00'", "'24:00:00'", "'23:59:59.999999'"]),
    same("timetz", "timetz_send($)", &["'00:00+15:59'", "'24:00:00-15:59'", "'12:00:00.5+00'"]),
    same("interval", "interval_send($)", &["'-178000000 years'", "'1 year 2 mons -3 days 04:05:06.789012'", "'0'"]),
    same("text", "textsend($)", &["''", "' a '", "E'\\t\\r\\n'", "'NULL'", "E'\\\\N'", "'{\"a\",b}'", "U&'\\+01F600'", "'é'", "U&'e\\0301'", "'Ä'", "repeat('x', 1000000)"]),
    same("varchar(5)", "varcharsend($)", &["''", "'äöüßé'", "'a    '"]),
    same("char(5)", "bpcharsend($)", &["''", "'ab'", "'abcde'"]),
    same("name", "namesend($)", &["repeat('n', 63)"]),
    same("bytea", "byteasend($)", &["''", "'\\x00ff00'", "decode(repeat('00ff', 100000), 'hex')"]),
    same("uuid", "uuid_send($)", &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),
    same("json", "json_send($)", &["'{\"b\" : 1, \"a\":[],\"b\":2}'", "'1e999'", "'\"\\u0000\"'", "'null'"]),
    same("jsonb", "jsonb_send($)", &["'{\"b\":1.00,\"a\":[]}'", "'1e99'", "'null'", "'\"\\ud83d\\ude00\"'"]),
    same("mood", "enum_send($)", &["'sad'", "'so so'"]),
    same("integer[]", "array_send($)", &["'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'[-1:0]={7,8}'"]),
    same("text[]", "array_send($)", &["ARRAY['', 'NULL', 'a,b', '{', '\"', E'\\\\', NULL, ' ']"]),
    same("double precision[]", "array_send($)", &["'{NaN,-0,Infinity,5e-324}'"]),
    same("timestamptz[]", "array_send($)", &["'{infinity,2024-01-01 00:00:00+00}'"]),
    same("mood[]", "textsend($::text)", &["'{sad,\"so so\"}'"]),
    same("inet", "inet_send($)", &["'192.168.0.1/24'", "'::1'"]),
    same("int4range", "range_send($)", &["'empty'", "'[1,5)'", "'(,)'"]),
    same("bit(3)", "bit_send($)", &["B'101'"]),
    same("varbit", "varbit_send($)", &["B''", "B'10111'"]),
    same("point", "point_send($)", &["'(0.1,-0)'"]),
    // Into another type.
    into(("bigint", "integer"), "int4send($)", &["7", "-2147483648"], &["2147483648"]),
    into(("bigint", "double precision"), "float8send($)", &["9007199254740992"], &["9007199254740993"]),
    into(("bigint", "text"), "textsend($)", &["-7"], &[]),
    into(("numeric", "numeric(12,2)"), "numeric_send($)", &["1.5", "-9999999999.99", "'NaN'"], &["1.005", "10000000000"]),
    into(("numeric", "bigint"), "int8send($)", &["7"], &["7.5", "9223372036854775808", "'NaN'"]),
    into(("numeric", "double precision"), "float8send($)", &["0.1", "'NaN'", "1e300"], &["0.12345678901234567890", "1e400"]),
    into(("double precision", "numeric"), "numeric_send($)", &["0.1", "'NaN'", "1e20"], &[]),
    into(("double precision", "real"), "float4send($)", &["0.5", "'Infinity'", "'-0'"], &["0.123456789", "1e300"]),
    into(("double precision", "integer"), "int4send($)", &["7", "-1"], &["7.5", "'NaN'"]),
    into(("double precision", "text"), "textsend($)", &["0.1", "1e20", "1e15", "123456789012345", "1e-5", "0.0001", "'NaN'", "'-Infinity'", "'-0'"], &[]),
    into(("timestamp", "timestamp(0)"), "timestamp_send($)", &["'2024-02-29 12:00:00'", "'infinity'"], &["'2024-02-29 12:00:00.5'"]),
    into(("timestamptz", "timestamptz(3)"), "timestamptz_send($)", &["'2024-02-29 12:00:00.123+00'"], &["'2024-02-29 12:00:00.1234+00'"]),
    into(("timestamp", "date"), "date_send($)", &["'2024-02-29 00:00:00'", "'-infinity'"], &["'2024-02-29 00:00:01'"]),
    into(("text", "time"), "time_send($)", &["'12:00:00'"], &["'2024-02-29 12:00:00'", "'12:00:00+01'"]),
    into(("date", "timestamp"), "timestamp_send($)", &["'2024-02-29'"], &["'5874897-12-31'"]),
    into(("timetz", "time"), "time_send($)", &["'12:00+00'"], &["'12:00+01'"]),
    into(("interval", "interval(0)"), "interval_send($)", &["'1 day 02:03:04'"], &["'00:00:00.5'"]),
    into(("interval", "interval year to month"), "interval_send($)", &["'1 year 2 mons'"], &["'1 mon 1 day'"]),
    into(("text", "varchar(3)"), "varcharsend($)", &["'äöü'", "''"], &["'abcd'", "'abc '"]),
    into(("text", "char(3)"), "bpcharsend($)", &["'ab'"], &["'abcd'", "'a '"]),
    into(("text", "name"), "namesend($)", &["'n'"], &["repeat('n', 64)"]),
    into(("text", "integer"), "int4send($)", &["'7'"], &["'seven'", "''", "'7.0'"]),
    into(("text", "boolean"), "boolsend($)", &["'yes'"], &["'maybe'"]),
    into(("text", "uuid"), "uuid_send($)", &["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"], &["'no uuid'"]),
    into(("text", "timestamp"), "timestamp_send($)", &["'2024-02-29 12:00'"], &["'2024-02-29 12:00+02'", "'2023-02-29 12:00'", "'soon'"]),
    into(("text", "narrow_mood"), "enum_send($)", &["'sad'"], &["'so so'"]),
    into(("mood", "narrow_mood"), "textsend($::text)", &["'sad'"], &["'so so'"]),
    into(("text", "json"), "json_send($)", &["'[1, 2]'"], &["'[1,'"]),
    into(("json", "jsonb"), "jsonb_send($)", &["'{\"a\": 1}'"], &["'\"\\u0000\"'"]),
    into(("varbit", "bit(3)"), "bit_send($)", &["B'101'"], &["B'1011'", "B'1'"]),
    into(("numeric[]", "numeric(5,1)[]"), "array_send($)", &["'{1.5,NULL}'"], &["'{1.25}'", "'{99999}'"]),
    into(("text[]", "varchar(2)[]"), "array_send($)", &["'{ab,\"\"}'"], &["'{abc}'", "'{\"ab \"}'"]),
    into(("numeric", "price"), "numeric_send($)", &["1.5"], &["1.005", "1e10"]),
    into(("json", "jsonb"), "jsonb_send($)", &["'[{\"a\":1}]'"], &["'{\"a\": 1, \"a\": 2}'"]),
    into(("integer", "small_number"), "int4send($)", &["7"], &["70"]),
];

#[rustfmt::skip]
pub const SQLITE: &[Kind] = &[
    same("INTEGER", "$", &["-9223372036854775808", "9223372036854775807", "0", "'no number'", "x'00ff'", "0.5"]),
    same("REAL", "$", &["0.1", "0.1 + 0.2", "9e999", "-9e999", "5e-324", "1.7976931348623157e308", "'no number'"]),
    same("TEXT", "$", &["''", "' a '", "'a' || char(0) || 'b'", "char(0)", "char(128512)", "'é'", "'e' || char(769)", "x'00ff'", "replace(hex(zeroblob(500000)), '00', 'x')"]),
    same("BLOB", "$", &["x''", "x'00ff00'", "7", "0.5", "'text'", "zeroblob(100000)"]),
    same("NUMERIC", "$", &["1.5", "'1.50'", "9223372036854775807", "9223372036854775808", "'2024-02-29'", "1e300"]),
    same("DECIMAL(12,2)", "$", &["1.005", "12345678901234567890"]),
    same("BOOLEAN", "$", &["TRUE", "FALSE", "2"]),
    same("TIMESTAMP", "$", &["'2024-02-29 12:00:00.123456789'", "1709208000", "'infinity'", "2460370.5"]),
    same("JSON", "$", &["'{\"b\" : 1, \"a\":[ ]}'", "7"]),
    same("", "$", &["7", "0.5", "'text'", "x'00'"]),
    // Into another affinity.
    into(("INTEGER", "REAL"), "$", &["7"], &["9007199254740993"]),
    into(("INTEGER", "TEXT"), "$", &["-7"], &[]),
    into(("REAL", "INTEGER"), "$", &["7.0", "0.5"], &[]),
    into(("REAL", "TEXT"), "$", &["0.1"], &["0.1 + 0.2"]),
    into(("TEXT", "NUMERIC"), "$", &["'1.50'", "'abc'"], &["'0.1000000000000000055'", "'12345678901234567890.5'"]),
    into(("TEXT", "REAL"), "$", &["'7'", "'abc'"], &["'9007199254740993'"]),
    into(("TEXT", "BLOB"), "$", &["'abc'"], &[]),
    into(("BLOB", "TEXT"), "$", &["x'00ff'"], &["CAST(x'ff' AS TEXT)"]),
    into(("BLOB", "INTEGER NOT NULL DEFAULT 0 CHECK (c{n} < 10)"), "$", &["7"], &["70"]),
];

#[rustfmt::skip]
pub const POSTGRES_TO_SQLITE: &[Kind] = &[
    into(("smallint", "INTEGER"), "$", &["-32768", "32767"], &[]),
    into(("bigint", "BIGINT"), "$", &["-9223372036854775808", "9223372036854775807"], &[]),
    into(("bigint", "REAL"), "$", &["7"], &["9007199254740993"]),
    into(("bigint", "TEXT"), "$", &["-7 => '-7'"], &[]),
    into(("numeric", "NUMERIC"), "$", &["0", "1.50 => 1.5", "9223372036854775807", "1e20", "'NaN'"], &["9223372036854775808", "0.12345678901234567890", "1e400"]),
    into(("numeric", "DECIMAL(12,2)"), "$", &["9999999999.99", "-0.01", "1.005"], &["repeat('9', 30)::numeric"]),
    into(("numeric", "TEXT"), "$", &["1.50 => '1.50'", "repeat('9', 30)::numeric => '999999999999999999999999999999'", "'Infinity'"], &[]),
    into(("numeric", ""), "$", &["1.50 => '1.50'"], &[]),
    into(("real", "REAL"), "$", &["0.1", "3.4028235e38", "1e-45", "'Infinity' => 9e999"], &["'NaN'"]),
    into(("double precision", "DOUBLE PRECISION"), "$", &["0.1", "0.1::float8 + 0.2 => 0.30000000000000004", "5e-324", "1.7976931348623157e308", "'-Infinity' => -9e999"], &["'NaN'"]),
    into(("double precision", "INTEGER"), "$", &["7", "0.5"], &["'-0'", "'NaN'"]),
    into(("double precision", "TEXT"), "$", &["0.1 => '0.1'"], &["0.1::float8 + 0.2", "'NaN'"]),
    into(("boolean", "BOOLEAN"), "$", &["true", "false"], &[]),
    into(("boolean", "TEXT"), "$", &["true => '1'"], &[]),
    into(("timestamp", "TEXT"), "$", &["'2024-02-29 12:34:56.000001'", "'infinity'", "'4713-01-01 00:00:00 BC'"], &[]),
    into(("timestamp", "TIMESTAMP"), "$", &["'2024-02-29 12:34:56'", "'294276-12-31 23:59:59.999999'", "'-infinity'"], &[]),
    into(("timestamptz", "TIMESTAMP"), "$", &["'2024-03-31 02:30:00+01' => '2024-03-31 01:30:00+00'"], &[]),
    into(("date", "DATE"), "$", &["'2024-02-29'", "'5874897-12-31'", "'4713-01-01 BC'", "'infinity'"], &[]),
    into(("time", "TIME"), "$", &["'24:00:00'", "'23:59:59.999999'"], &[]),
    into(("timetz", "TEXT"), "$", &["'12:00:00.5+00'"], &[]),
    into(("interval", "TEXT"), "$", &["'1 year 2 mons -3 days 04:05:06.789012' => 'P1Y2M-3DT4H5M6.789012S'"], &[]),
    into(("text", "TEXT"), "$", &["''", "' a '", "'a '", "'1e5'", "'007'", "'é'", "U&'e\\0301' => 'e' || char(769)", "E'\\t\\r\\n' => char(9, 13, 10)", "repeat('x', 500000) => replace(hex(zeroblob(250000)), '0', 'x')"], &[]),
    into(("text", "NUMERIC"), "$", &["'1.50' => 1.5", "'007' => 7", "'abc'"], &["'0.1000000000000000055'"]),
    into(("text", "BLOB"), "$", &["'abc'", "'7'"], &[]),
    into(("varchar(5)", "VARCHAR(3)"), "$", &["'äöüßé'"], &[]),
    into(("char(5)", "TEXT"), "$", &["'ab'"], &[]),
    into(("bytea", "BLOB"), "$", &["'' => x''", "'\\x00ff00' => x'00ff00'", "'abc' => x'616263'"], &[]),
    into(("bytea", ""), "$", &["'\\x00ff00' => x'00ff00'"], &[]),
    into(("uuid", "TEXT"), "$", &["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11' => 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"], &[]),
    into(("uuid", "UUID"), "$", &["'00000000-0000-0000-0000-000000000000'", "'11111111-1111-1111-1111-111111111111'"], &[]),
    into(("json", "TEXT"), "$", &["'{\"b\" : 1, \"a\":[],\"b\":2}'"], &[]),
    into(("jsonb", "JSON"), "$", &["'{\"b\":1.00,\"a\":[]}' => '{\"a\": [], \"b\": 1.00}'", "'null'"], &["'12345678901234567890.5'"]),
    into(("mood", "TEXT"), "$", &["'so so'"], &[]),
    into(("integer[]", "TEXT"), "$", &["'{1,NULL,3}'"], &[]),
    into(("inet", "TEXT"), "$", &["'192.168.0.1/24'"], &[]),
    into(("integer", "INTEGER NOT NULL DEFAULT 0 CHECK (c{n} < 10)"), "$", &["7"], &["70"]),
];

#[rustfmt::skip]
pub const SQLITE_TO_POSTGRES: &[Kind] = &[
    into(("INTEGER", "bigint"), "int8send($)", &["-9223372036854775808", "9223372036854775807"], &["'no number'", "x'00ff'", "0.5"]),
    into(("INTEGER", "smallint"), "int2send($)", &["7"], &["32768"]),
    into(("INTEGER", "numeric(12,2)"), "numeric_send($)", &["7"], &["10000000000"]),
    into(("INTEGER", "double precision"), "float8send($)", &["7"], &["9007199254740993"]),
    into(("INTEGER", "text"), "textsend($)", &["-7 => '-7'"], &["x'00ff'"]),
    into(("INTEGER", "boolean"), "boolsend($)", &["1 => true", "0 => false"], &["2"]),
    into(("BOOLEAN", "boolean"), "boolsend($)", &["TRUE", "FALSE"], &["2", "'maybe'"]),
    into(("BOOLEAN", "integer"), "int4send($)", &["TRUE => 1"], &[]),
    into(("REAL", "double precision"), "float8send($)", &["0.1", "0.1 + 0.2 => 0.30000000000000004", "5e-324", "9e999 => 'Infinity'", "-9e999 => '-Infinity'"], &["'no number'"]),
    into(("REAL", "real"), "float4send($)", &["0.5"], &["0.123456789"]),
    into(("REAL", "numeric"), "numeric_send($)", &["0.1", "1e300"], &[]),
    into(("REAL", "bigint"), "int8send($)", &["7.0 => 7"], &["7.5"]),
    into(("REAL", "text"), "textsend($)", &["0.1 + 0.2 => '0.30000000000000004'"], &[]),
    into(("NUMERIC", "numeric"), "numeric_send($)", &["'1.50' => 1.5", "9223372036854775808 => 9223372036854776000"], &["'2024-02-29'"]),
    into(("DECIMAL(12,2)", "numeric(12,2)"), "numeric_send($)", &["1.5", "7"], &["1.005"]),
    into(("TEXT", "text"), "textsend($)", &["''", "' a '", "'1e5'", "'é'", "'e' || char(769) => U&'e\\0301'", "'a\\b'", "char(128512) => U&'\\+01F600'"], &["CAST(x'610062' AS TEXT)", "x'00ff'"]),
    into(("TEXT", "varchar(3)"), "varcharsend($)", &["'äöü'"], &["'abcd'", "'abc '", "x'31'"]),
    into(("TEXT", "boolean"), "boolsend($)", &["'yes' => true"], &["'maybe'"]),
    into(("TEXT", "numeric"), "numeric_send($)", &["'12345678901234567890.123' => 12345678901234567890.123"], &["'seven'"]),
    into(("TEXT", "timestamp"), "timestamp_send($)", &["'2024-02-29 12:34:56.000001'", "'2024-02-29T12:34:56'", "'infinity'"], &["'2024-02-29 12:00:00.1234567'", "'2024-02-29 12:00:00+02'", "'soon'"]),
    into(("TIMESTAMP", "timestamptz"), "timestamptz_send($)", &["'2024-02-29 12:34:56' => '2024-02-29 12:34:56+00'"], &["1709208000"]),
    into(("DATE", "date"), "date_send($)", &["'2024-02-29'"], &["'2023-02-29'", "'2024-02-29 12:00:00'"]),
    into(("TEXT", "time"), "time_send($)", &["'23:59:59'"], &["'25:00:00'"]),
    into(("TEXT", "uuid"), "uuid_send($)", &["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"], &["'no uuid'"]),
    into(("TEXT", "jsonb"), "jsonb_send($)", &["'{\"a\": 1}'"], &["'{\"a\":'", "'{\"a\": 1, \"a\": 2}'"]),
    into(("TEXT", "mood"), "enum_send($)", &["'so so'"], &["'glad'"]),
    into(("BLOB", "bytea"), "byteasend($)", &["x'' => ''", "x'00ff00' => '\\x00ff00'"], &[]),
    into(("BLOB", "text"), "textsend($)", &["'text'"], &["x'00ff'"]),
    into(("", "text"), "textsend($)", &["7 => '7'", "0.5 => '0.5'", "'text'"], &["x'00'"]),
    into(("", "integer"), "int4send($)", &["7", "'7' => 7"], &["7.5", "'seven'", "x'37'"]),
    into(("", "bit(3)"), "bit_send($)", &["'101' => B'101'"], &["101"]),
    into(("INTEGER", "small_number"), "int4send($)", &["7"], &["70"]),
];
