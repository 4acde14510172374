// Package folder is a peer's data folder on disk.
//
// Folder names what is in it. Backup, Restore and Freeze copy it; Invites are those that its coordinator made; Book is where
// peers were last reached; Retention decides which bytes of a run stay, and Past rebuilds a state of the run from them.
package folder
