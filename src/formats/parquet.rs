//! Parquet files: tables in columns, with feature `parquet`. A build without it refuses the file and names the feature.
//!
//! Columns of numbers and truth values become the table's columns, by name. A null or NaN is a missing value. Numbers are used as they
//! are; eight-bit values do not stand for x/255. A column of text can only hold the labels.
//!
//! Columns of dates, times, decimals, lists and other types are refused by name, as their value for a model is not defined. Columns
//! that hold pandas' index (`__index_level_0__`) are dropped, with a note. Files may be compressed with Snappy, Zstandard or gzip.

#[cfg(not(feature = "parquet"))]
pub(super) fn read_table(
    _: &mut dyn std::io::Read, source_name: &str, _: &super::Reading,
) -> crate::error::Result<super::table::Table> {
    use crate::storage::format_error;
    let expected = "another file than Parquet, or harmonium with its feature `parquet`";
    let found = "a Parquet file; pandas.read_parquet(x).to_numpy() and numpy.save make an npy file of it";
    Err(format_error(source_name, expected, found))
}

#[cfg(feature = "parquet")]
pub(super) use columns::read_table;

#[cfg(feature = "parquet")]
mod columns {
    use crate::{
        error::{Error, Result, shown},
        formats::{
            LabelSource, Reading, labels,
            table::{Numbers, Table},
        },
        storage::{format_error, stream_error},
    };
    use ::parquet::{
        basic::{ConvertedType, LogicalType, Type},
        column::reader::{ColumnReader, ColumnReaderImpl},
        data_type::{ByteArray, DataType},
        errors::ParquetError,
        file::{
            metadata::RowGroupMetaData,
            reader::{FileReader, SerializedFileReader},
        },
        schema::types::ColumnDescriptor,
    };
    use bytes::Bytes;
    use std::{
        io::Read,
        panic::{self, AssertUnwindSafe},
    };

    /// The number of values in one read.
    const BATCH: usize = 1 << 12;
    /// The prefix of pandas' index columns.
    const INDEX: &str = "__index_level_";

    pub fn read_table(reader: &mut dyn Read, source_name: &str, how: &Reading) -> Result<Table> {
        // Parquet's metadata are at the end of the file, so all of it must be read.
        let (mut bytes, most) = (Vec::new(), how.max_bytes.min(isize::MAX as u64));
        reader.take(most).read_to_end(&mut bytes).map_err(|problem| stream_error(source_name, problem))?;
        if bytes.len() as u64 == most {
            let expected = format!("a Parquet file of less than {most} bytes of memory");
            return Err(format_error(source_name, expected, "a longer one"));
        }
        let left = most - bytes.len() as u64;
        // The parquet crate panics on some damaged files.
        let table = panic::catch_unwind(AssertUnwindSafe(|| table(bytes, source_name, how, left)));
        table.unwrap_or_else(|_| Err(format_error(source_name, "a Parquet file", "a damaged one")))
    }

    /// Reads a table from a file's bytes, with at most `left` bytes of memory.
    fn table(bytes: Vec<u8>, source_name: &str, how: &Reading, left: u64) -> Result<Table> {
        let wrong = |problem: ParquetError| format_error(source_name, "a Parquet file", shown(&problem.to_string()));
        let file = SerializedFileReader::new(Bytes::from(bytes)).map_err(wrong)?;
        let schema = file.metadata().file_metadata().schema_descr();
        let all = 0..schema.num_columns();
        let is_index = |&n: &usize| schema.column(n).name().starts_with(INDEX);
        let (index, columns): (Vec<usize>, Vec<usize>) = all.partition(is_index);
        let names: Vec<String> = columns.iter().map(|&n| schema.column(n).path().string()).collect();
        let label = match &how.labels {
            LabelSource::Column(column) => Some(column.index_among(columns.len(), &names, source_name)?),
            _ => None,
        };
        let groups = file.metadata().row_groups().iter();
        let rows =
            groups.map(RowGroupMetaData::num_rows).try_fold(0usize, |sum, n| sum.checked_add(n.try_into().ok()?));
        let units = columns.len() - usize::from(label.is_some());
        // The values are in memory twice: by columns, and then by rows.
        let needed = rows.and_then(|rows| rows.checked_mul(units)).and_then(|n| n.checked_mul(2 * size_of::<f32>()));
        let (Some(rows), Some(_)) = (rows, needed.filter(|&needed| needed as u64 <= left)) else {
            let expected = format!("a table that takes at most {left} bytes of memory");
            return Err(format_error(
                source_name,
                expected,
                format!("one of {units} columns of numbers, by its header"),
            ));
        };
        if rows == 0 || columns.is_empty() {
            let expected = "at least one row and one column";
            return Err(format_error(source_name, expected, format!("{rows} × {}", columns.len())));
        }
        let chunks = file.metadata().row_groups().iter().flat_map(RowGroupMetaData::columns);
        let mut places = chunks.flat_map(|chunk| {
            [chunk.dictionary_page_offset().unwrap_or(0), chunk.data_page_offset(), chunk.compressed_size()]
        });
        if let Some(place) = places.find(|&place| place < 0) {
            return Err(format_error(source_name, "columns within the Parquet file", format!("one at byte {place}")));
        }
        let mut values: Vec<Vec<f32>> = Vec::new();
        let mut names_of_rows = labels::Builder::default();
        for (place, &n) in columns.iter().enumerate() {
            let column = Column::of(&schema.column(n), source_name)?;
            let is_label = label == Some(place);
            let mut numbers: Vec<f32> = Vec::new();
            let mut came = 0;
            for group in 0..file.num_row_groups() {
                let group = file.get_row_group(group).map_err(wrong)?;
                let reader = group.get_column_reader(n).map_err(wrong)?;
                let mut each = |value: Option<Value<'_>>| {
                    came += 1;
                    if came > rows {
                        return Err(column.wrong(format!("{rows} values"), "more".into()));
                    }
                    match is_label {
                        true => column.label(&mut names_of_rows, came - 1, value),
                        false => column.number(came - 1, value).map(|x| numbers.push(x)),
                    }
                };
                column.read(reader, &mut each)?;
            }
            if came != rows {
                return Err(column.wrong(format!("{rows} values"), came.to_string()));
            }
            if !is_label {
                values.push(numbers);
            }
        }
        let numbers = (0..rows).flat_map(|row| values.iter().map(move |column| column[row])).collect();
        let labels = label.map(|_| names_of_rows.finish());
        let mut table = Table::new(Numbers::of(numbers), units.max(usize::from(labels.is_none())));
        table.labels = labels;
        if !index.is_empty() {
            let names: Vec<_> = index.iter().map(|&n| schema.column(n).name().to_string()).collect();
            table.note = Some(format!("without pandas' index {}", shown(&names.join(", "))));
        }
        Ok(table)
    }

    /// A value that is not null.
    enum Value<'a> {
        Whole(i128),
        Real(f64),
        Text(&'a ByteArray),
    }

    struct Column<'a> {
        name: String,
        source_name: &'a str,
        /// Whole numbers are unsigned.
        is_unsigned: bool,
        /// Values may be null, which has definition level 0.
        has_nulls: bool,
    }

    impl<'a> Column<'a> {
        fn of(found: &ColumnDescriptor, source_name: &'a str) -> Result<Self> {
            let converted = found.converted_type();
            let logical = found.logical_type_ref();
            let is_plain = match logical {
                None => true,
                Some(LogicalType::Integer(_) | LogicalType::String | LogicalType::Enum | LogicalType::Unknown) => true,
                Some(_) => false,
            };
            use ConvertedType as C;
            let is_unsigned = [C::UINT_8, C::UINT_16, C::UINT_32, C::UINT_64].contains(&converted)
                || matches!(logical, Some(LogicalType::Integer(whole)) if !whole.is_signed);
            let is_signed = [C::NONE, C::UTF8, C::ENUM, C::INT_8, C::INT_16, C::INT_32, C::INT_64].contains(&converted);
            let has_type = ![Type::INT96, Type::FIXED_LEN_BYTE_ARRAY].contains(&found.physical_type());
            let is_flat = found.path().parts().len() == 1 && found.max_rep_level() == 0 && found.max_def_level() <= 1;
            let name = found.path().string();
            let has_nulls = found.max_def_level() == 1;
            let new = Self { name, source_name, is_unsigned, has_nulls };
            if is_flat && is_plain && has_type && (is_signed || is_unsigned) {
                return Ok(new);
            }
            let kind = match (is_flat, logical, converted) {
                (false, ..) => "lists or groups".to_string(),
                (_, Some(logical), _) => shown(&format!("{logical:?}")),
                (_, None, C::NONE) => found.physical_type().to_string(),
                (_, None, converted) => converted.to_string(),
            };
            Err(new.wrong("numbers or truth values, or text for labels".into(), kind))
        }

        /// An error about this column.
        fn wrong(&self, expected: String, found: String) -> Error {
            format_error(self.source_name, format!("{expected} in column {}", shown(&self.name)), found)
        }

        /// Calls `each` for every value of a part of the column, with `None` for null.
        fn read(&self, reader: ColumnReader, each: &mut dyn FnMut(Option<Value<'_>>) -> Result<()>) -> Result<()> {
            let is_unsigned = self.is_unsigned;
            match reader {
                ColumnReader::BoolColumnReader(r) => self.values(r, &|&x| Value::Whole(x.into()), each),
                ColumnReader::Int32ColumnReader(r) => {
                    self.values(r, &|&x| Value::Whole(if is_unsigned { (x as u32).into() } else { x.into() }), each)
                }
                ColumnReader::Int64ColumnReader(r) => {
                    self.values(r, &|&x| Value::Whole(if is_unsigned { (x as u64).into() } else { x.into() }), each)
                }
                ColumnReader::FloatColumnReader(r) => self.values(r, &|&x| Value::Real(x.into()), each),
                ColumnReader::DoubleColumnReader(r) => self.values(r, &|&x| Value::Real(x), each),
                ColumnReader::ByteArrayColumnReader(r) => self.values(r, &|x| Value::Text(x), each),
                _ => Err(self.wrong("numbers".into(), "another type".into())),
            }
        }

        fn values<T: DataType>(
            &self, mut reader: ColumnReaderImpl<T>, value: &dyn for<'b> Fn(&'b T::T) -> Value<'b>,
            each: &mut dyn FnMut(Option<Value<'_>>) -> Result<()>,
        ) -> Result<()> {
            let (mut values, mut levels) = (Vec::new(), Vec::new());
            loop {
                values.clear();
                levels.clear();
                let of_levels = self.has_nulls.then_some(&mut levels);
                let read = reader.read_records(BATCH, of_levels, None, &mut values);
                let (records, ..) = read.map_err(|problem| {
                    self.wrong("values in Parquet's encoding".into(), shown(&problem.to_string()))
                })?;
                if records == 0 {
                    return Ok(());
                }
                let mut there = values.iter().map(value);
                for n in 0..records {
                    let is_null = self.has_nulls && levels.get(n) != Some(&1);
                    let value = if is_null { None } else { there.next() };
                    if value.is_none() && !is_null {
                        return Err(self.wrong("as many values as levels".into(), "fewer".into()));
                    }
                    each(value)?;
                }
            }
        }

        fn number(&self, row: usize, value: Option<Value<'_>>) -> Result<f32> {
            match value {
                None => Ok(f32::NAN),
                Some(Value::Whole(x)) => Ok(x as f32),
                Some(Value::Real(x)) => {
                    let number = x as f32;
                    if !number.is_infinite() {
                        return Ok(number);
                    }
                    Err(self.wrong("finite numbers".into(), format!("{x:e} in row {row}")))
                }
                Some(Value::Text(_)) => {
                    let expected = "numbers or truth values, or --label-column for its text,";
                    Err(self.wrong(expected.into(), "text".into()))
                }
            }
        }

        fn label(&self, labels: &mut labels::Builder, row: usize, value: Option<Value<'_>>) -> Result<()> {
            let name = match value {
                None => None,
                Some(Value::Whole(x)) => Some(x.to_string()),
                Some(Value::Real(x)) if x.is_nan() => None,
                Some(Value::Real(x)) if x.fract() == 0.0 => Some(x.to_string()),
                Some(Value::Real(x)) => {
                    let expected = "labels that are words or whole numbers";
                    return Err(self.wrong(expected.into(), format!("{x} in row {row}")));
                }
                Some(Value::Text(text)) => match str::from_utf8(text.data()) {
                    Ok(text) => Some(shown(text)).filter(|text| !text.is_empty()),
                    Err(_) => return Err(self.wrong("text in UTF-8".into(), format!("other bytes in row {row}"))),
                },
            };
            labels.push(name.as_deref());
            Ok(())
        }
    }
}
