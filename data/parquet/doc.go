// Package parquet reads documents from a column of strings of an Apache Parquet
// file, for data.Prepare.
//
// It stands apart from package data because its library reaches the network,
// which the numeric packages must not; the command hands Open to data.Prepare.
// The library is parquet-go/parquet-go: compared with apache/arrow-go it brings
// half of the modules and a third of the binary, and one column is all that is
// read. Snappy, gzip, zstd, brotli and LZ4 pages are read, row group by row group,
// page by page, so that memory is bounded by the pages of the file.
package parquet
