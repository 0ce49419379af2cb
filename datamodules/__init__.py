"""DataModules: photographs with captions, from COCO, from folders, or from the embedded sample."""
