// Command interop prints what a model makes of tokens, for tools/interop/interop.py.
//
//	interop logits FOLDER < windows.json > logits.f32     windows of one length; float32, little-endian
//	interop tokens FOLDER < text > tokens.json            what the folder's tokenizer makes of a text
package main
