// Package checkpoint keeps a model, and what it takes to train on, in a folder:
//
//	DIR/latest                      the name of the newest whole checkpoint
//	DIR/step-000000400/
//	    model.safetensors           weights, Hugging Face names and layout
//	    config.json                 the model's shape, Hugging Face keys
//	    tokenizer.json              the tokenizer (optional; without it tokens are bytes)
//	    trainer.safetensors         moments, counters, data position (optional)
//	    checkpoint.json             length and SHA-256 of each of the above
//
// A step folder opens in other tools as it is. Save writes a new step folder
// aside, flushes it, renames it into place and only then moves the pointer, so
// a crash at any moment leaves the old checkpoint or the new one, whole. Open
// refuses a file that is missing, cut short or altered, and names it.
//
// A Universal is a folder of another form: one content-addressed blob for each
// parameter and kind of value, for any number of writers and readers.
// OpenHuggingFace and WriteHuggingFace exchange models with other tools.
//
// Write and Read are a safetensors codec for float32 tensors. Read takes bytes
// from anywhere: every length and offset is checked against the size of the
// input before memory is taken.
package checkpoint
